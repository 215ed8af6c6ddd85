"""Small image files of unusual kinds."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
XMP = (b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
       b'22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="'
       b'6"/></rdf:RDF></x:xmpmeta>')


def exif(orientation: int) -> Image.Exif:
    """EXIF with an orientation only."""
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def write_rotated(path: Path, orientation: int = 6, pixels: np.ndarray = PIXELS, **options) -> Path:
    """Write an image with an EXIF orientation; 12 x 8 pixels as stored by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif(orientation), **options)
    return path


def write_kinds(folder: Path) -> dict[str, Path]:
    """Write images whose orientation readers find at different locations, or not at all."""
    for suffix in ('jpg', 'png', 'tif', 'webp', 'avif'):
        write_rotated(folder / f'exif.{suffix}')
    for orientation in (0, 2, 3, 5, 7, 8, 9):
        write_rotated(folder / f'{orientation}.jpg', orientation)
    write_rotated(folder / 'lzw.tif', compression='tiff_lzw')
    write_rotated(folder / 'deep.tif', pixels=PIXELS[..., 0].astype(np.uint16) * 100)
    write_rotated(folder / 'camera.jpg', format='MPO', save_all=True, append_images=[Image.fromarray(PIXELS)])
    jpeg, png = (_encode(kind) for kind in ('JPEG', 'PNG'))
    found = exif(6).tobytes()
    for name, segments in (('xmp', [XMP]), ('exif first', [found, XMP]), ('xmp first', [XMP, found])):
        middle = b''.join(b'\xff\xe1' + struct.pack('>H', len(each) + 2) + each for each in segments)
        (folder / f'{name}.jpg').write_bytes(jpeg[:2] + middle + jpeg[2:])
    chunk = struct.pack('>I', len(found) - 6) + b'eXIf' + found[6:]
    chunk += struct.pack('>I', zlib.crc32(chunk[4:]))
    for name, before in (('early', b'IDAT'), ('late', b'IEND')):
        at = png.index(before) - 4
        (folder / f'{name}.png').write_bytes(png[:at] + chunk + png[at:])
    return {path.name: path for path in sorted(folder.iterdir())}


def write_deep(path: Path, shape: tuple[int, ...] = (8, 12, 3), largest: int = 4095) -> Path:
    """Write 16-bit values from 0 to ``largest``."""
    values = np.linspace(0, largest, int(np.prod(shape))).astype(np.uint16).reshape(shape)
    assert cv2.imwrite(str(path), values)
    return path


def _encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()
