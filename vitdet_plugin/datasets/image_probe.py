"""Properties of one image file: size, mode, EXIF orientation, format, whether it decodes, and fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vitdet_plugin.datasets.image_reader import DEFAULT_READER, ImageReader, declared_orientation, decode, size_fault
from vitdet_plugin.utils.text import is_unicode

NOT_DECODED = 'cannot be read by OpenCV, as in training'
FINGERPRINT_SIDE = 16  # 16 x 16 comparisons of neighboring pixels: 256 bits
_TRANSPOSING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_FORMAT_OF = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.jpe': 'JPEG', '.jfif': 'JPEG', '.png': 'PNG', '.bmp': 'BMP',
              '.dib': 'BMP', '.webp': 'WEBP', '.tif': 'TIFF', '.tiff': 'TIFF', '.gif': 'GIF', '.avif': 'AVIF'}
_SAME_FORMAT = {'MPO': 'JPEG'}  # cameras store a JPEG followed by previews
_WIDTH_TAG, _HEIGHT_TAG, _BITS_TAG = 256, 257, 258  # of TIFF


class UnreadableImage(NamedTuple):
    """Reason why an image file cannot be read.

    Attributes:
        kind: One of a few phrases that continue "the image …".
        detail: Message of the decoder, if any.
    """

    kind: str
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.kind} ({self.detail})' if self.detail else self.kind


@dataclass(frozen=True, eq=False)
class ImageProbe:
    """Properties of an image file that can be read.

    Attributes:
        width: In pixels as stored, before the EXIF orientation is applied.
        height: Likewise.
        mode: Pillow's mode: RGB, L, RGBA, CMYK, I;16 …
        orientation: EXIF orientation, 1 to 8, that the reader applies; 1 is upright.
        ignored_orientation: Orientation that the file declares and the reader does not apply, otherwise 1.
        other_format: Format of the content if the suffix is that of another format, otherwise empty.
        format: Pillow's name of the format.
        depth: Bits per channel as stored.
        has_frames: Whether the file has further frames or pages, which are not read.
        bytes: Size of the file.
        digest: Hash of the decoded pixels, equal for the same pixels in different lossless files; None without
            ``fingerprints``.
        bits: (256,) int8 of -1 and 1: which of two neighboring pixels of a reduced image is brighter. Few bits
            differ between copies that were resized or compressed again. None without ``fingerprints``.
    """

    width: int
    height: int
    mode: str
    orientation: int
    ignored_orientation: int
    other_format: str
    format: str
    depth: int
    has_frames: bool
    bytes: int
    digest: str | None = None
    bits: np.ndarray | None = None

    @property
    def is_rotated(self) -> bool:
        """Whether a rotation or reflection by EXIF is applied."""
        return self.orientation != 1

    @property
    def size_as_read(self) -> tuple[int, int]:
        """(width, height) in pixels that training gets, after the EXIF orientation."""
        return (self.height, self.width) if self.orientation in _TRANSPOSING else (self.width, self.height)

    def compare_size(self, annotated: tuple[float, float]) -> str:
        """Return how the size differs from the annotated (width, height); empty if it does not."""
        read = self.size_as_read
        if tuple(annotated) == read:
            return ''
        return f'{read[0]} x {read[1]}, annotated {annotated[0]:g} x {annotated[1]:g}{self.explain_size(annotated)}'

    def explain_size(self, annotated: tuple[float, float]) -> str:
        """Return what to do if the annotated size is that before the orientation, otherwise an empty text."""
        if tuple(annotated) == self.size_as_read[::-1] and self.orientation in _TRANSPOSING:
            return (f'; the file has an EXIF orientation that readers apply ({self.orientation}): remove it, since the '
                    'annotations fit the stored pixels, or annotate the rotated image')
        if tuple(annotated) == self.size_as_read[::-1] and self.ignored_orientation in _TRANSPOSING:
            return (f'; the file has an orientation ({self.ignored_orientation}) that is not applied to this kind of '
                    'file: store the pixels rotated instead')
        return ''


def probe_image(path: str | Path, decode: bool = True, fingerprints: bool = False,
                reader: ImageReader = DEFAULT_READER) -> ImageProbe | UnreadableImage:
    """Open an image file once and return its properties, or why it cannot be read.

    Pillow warns about odd EXIF entries and refuses large images that OpenCV reads; use :func:`decoder_limits` around a
    series of calls.

    Args:
        path: Image file with any suffix.
        decode: Decode all pixels. This finds truncated files, which OpenCV fills with gray. Otherwise only the header
            is read.
        fingerprints: Also compute ``digest`` and ``bits``; needs ``decode``.
        reader: How training reads the file.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return UnreadableImage('is a folder' if path.is_dir() else 'is missing')
        if path.stat().st_size == 0:
            return UnreadableImage('is empty')
        if not is_unicode(str(path)):  # no file of annotations or results could name it
            return UnreadableImage('has a name that is not UTF-8', 'rename it')
        with Image.open(path) as image:
            return _probe(image, path, decode, decode and fingerprints, reader)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return UnreadableImage('is implausibly large')
    except UnidentifiedImageError:
        return _probe_with_opencv(path, fingerprints) or _describe_values(path)
    except Exception as error:  # decoders raise almost anything on damaged data
        return UnreadableImage('cannot be decoded to its end', ' '.join(str(error).split())[:80])


@contextlib.contextmanager
def decoder_limits() -> Iterator[None]:
    """Discard messages of decoders and let Pillow open images of any size; the limits are those of :func:`size_fault`.

    The settings apply to the whole process: enter this once around all threads, not in each.
    """
    log = cv2.utils.logging if hasattr(cv2.utils, 'logging') else cv2  # OpenCV 5, OpenCV 4
    before, level = Image.MAX_IMAGE_PIXELS, log.getLogLevel()
    Image.MAX_IMAGE_PIXELS = None
    log.setLogLevel(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
        log.setLogLevel(level)


def _describe_values(path: Path) -> UnreadableImage:
    """Return why neither Pillow nor OpenCV reads a file as color, such as floating-point color in OpenCV 5."""
    stored = decode(path, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype == np.uint8:
        return UnreadableImage('has no known image format')
    return UnreadableImage(NOT_DECODED, f'{8 * stored.dtype.itemsize} bits; convert it to 8 bits')


def _probe(image: Image.Image, path: Path, decode: bool, fingerprints: bool,
           reader: ImageReader) -> ImageProbe | UnreadableImage:
    width, height = image.size
    if image.format == 'TIFF':  # Pillow exchanges the sides of a rotated TIFF before or after decoding
        width, height = image.tag_v2[_WIDTH_TAG], image.tag_v2[_HEIGHT_TAG]  # type: ignore[attr-defined]
    file_bytes = path.stat().st_size
    if fault := size_fault(width, height, file_bytes):
        return UnreadableImage('is implausibly large', fault)
    orientation, depth, mode = reader.orientation(image, path), bits_per_channel(image), image.mode
    declared = declared_orientation(image) if image.format != 'PNG' or decode else 1  # Pillow decodes a PNG for it
    has_frames = image.format != 'MPO' and bool(getattr(image, 'is_animated', False))
    image_format = str(image.format)
    if decode:
        image.load()
    expected_format = _FORMAT_OF.get(path.suffix.lower(), image_format)
    other_format = '' if _SAME_FORMAT.get(image_format, image_format) == expected_format else image_format
    return ImageProbe(width, height, mode, orientation, declared if orientation == 1 else 1, other_format, image_format,
                      depth, has_frames, file_bytes, _digest(image) if fingerprints else None,
                      _bits(image) if fingerprints else None)


def _probe_with_opencv(path: Path, fingerprints: bool) -> ImageProbe | None:
    """Probe a format or bit depth that Pillow does not know; the file is decoded."""
    pixels = decode(path)
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    stored = decode(path, cv2.IMREAD_UNCHANGED)
    depth = 8 if stored is None else 8 * stored.dtype.itemsize
    image = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
    return ImageProbe(width, height, 'RGB', 1, 1, '', '', depth, False, path.stat().st_size,
                      _digest(image) if fingerprints else None, _bits(image) if fingerprints else None)


def bits_per_channel(image: Image.Image) -> int:
    """Bits per channel as stored; Pillow reduces 16-bit color to 8 bits without changing the mode."""
    if image.format == 'TIFF':
        bits = image.tag_v2.get(_BITS_TAG, 1)  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) else bits
    if image.mode in ('I', 'F') and image.format != 'PPM':
        return 32
    arguments = image.tile[0].args if image.tile else ()
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    is_deep = image.mode.startswith('I') or any(
        isinstance(each, str) and ';16' in each or image.format == 'PPM' and isinstance(each, int) and each > 255
        for each in arguments)
    return 16 if is_deep else 8


def _digest(image: Image.Image) -> str:
    plain = image.convert('RGB') if image.mode == 'P' else image
    return hashlib.blake2b(f'{plain.mode}{plain.size}'.encode() + plain.tobytes(), digest_size=16).hexdigest()


def _bits(image: Image.Image) -> np.ndarray:
    side = FINGERPRINT_SIDE
    gray = np.asarray(image.convert('L').resize((side + 1, side), Image.Resampling.BOX), np.int16)
    return np.where(np.diff(gray, axis=1) > 0, 1, -1).astype(np.int8).ravel()
