"""How a pipeline reads an image file: the decoder, whether it applies the EXIF orientation, and the largest size.

The convention of this project is the image as mmcv loads it by default: OpenCV decodes to 8-bit BGR and applies the
orientation of EXIF. OpenCV does so for JPEG, PNG and TIFF only, and not for an orientation that is stored as XMP.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from vitdet_plugin.config.registry import type_name

_EXIF_ORIENTATION = 0x0112
_EXIF_HEADER = b'Exif\0\0'
_OPENCV_5 = int(cv2.__version__.partition('.')[0]) >= 5
_APPLIES = ('color', 'grayscale')  # color types of mmcv that apply the orientation
_OPENCV_FLAGS = dict(color=cv2.IMREAD_COLOR, grayscale=cv2.IMREAD_GRAYSCALE, unchanged=cv2.IMREAD_UNCHANGED,
                     color_ignore_orientation=cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
                     grayscale_ignore_orientation=cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


def _limit(variable: str, default: int) -> int:
    text = os.environ.get(variable, '')
    return int(text) if text.isdecimal() else default


# OpenCV's limits and the environment variables that change them
MAX_PIXELS = _limit('OPENCV_IO_MAX_IMAGE_PIXELS', 2**30)
MAX_SIDE = min(_limit(f'OPENCV_IO_MAX_IMAGE_{side}', 2**20) for side in ('WIDTH', 'HEIGHT'))
_PLAUSIBLE_PIXELS = 2**26  # up to this size (200 MB decoded) a file may be compressed by any factor
_MOST_PIXELS_PER_BYTE = 9000  # Deflate stores up to 1032 bytes in one, so 8256 pixels of one bit


class ImageReader(NamedTuple):
    """Arguments of mmcv's ``LoadImageFromFile`` that decide how a file is decoded.

    Attributes:
        backend: ``cv2``, ``pillow``, ``turbojpeg`` or ``tifffile``.
        color_type: ``color``, ``grayscale``, ``unchanged``, or one of the first two with ``_ignore_orientation``.
    """

    backend: str = 'cv2'
    color_type: str = 'color'

    def orientation(self, image: Image.Image, path: str | os.PathLike) -> int:
        """Return the EXIF orientation, 1 to 8, that this reader applies to an opened image; 1 is upright."""
        value: Any = 1
        if self.backend == 'pillow':
            is_applied = self.color_type in _APPLIES or image.format == 'TIFF'
            value = image.getexif().get(_EXIF_ORIENTATION) if is_applied else 1
        elif self.backend == 'cv2':
            if image.format == 'TIFF':  # OpenCV applies it for every color type
                value = image.tag_v2.get(_EXIF_ORIENTATION)  # type: ignore[attr-defined]
            elif self.color_type in _APPLIES:
                value = _exif_of_opencv(image, path).get(_EXIF_ORIENTATION)
        return value if value in range(1, 9) else 1

    def decode(self, path: str | os.PathLike) -> np.ndarray | None:
        """Decode a file with OpenCV in the color type of this reader; None if OpenCV cannot read it."""
        return decode(path, _OPENCV_FLAGS.get(self.color_type, cv2.IMREAD_COLOR))


DEFAULT_READER = ImageReader()


def reader_of_pipeline(pipeline: Sequence[Any] | None) -> ImageReader:
    """Return the reader of the first step of a pipeline's config that loads an image file."""
    for step in pipeline or ():
        if type_name(step).endswith(('LoadImageFromFile', 'LoadResizedImage')):
            return ImageReader(step.get('imdecode_backend') or 'cv2', step.get('color_type') or 'color')
    return DEFAULT_READER


def declared_orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, that an opened image declares as EXIF or XMP, whether readers apply it or not."""
    value = image.getexif().get(_EXIF_ORIENTATION)
    return value if value in range(1, 9) else 1


def size_fault(width: int, height: int, file_bytes: int | None = None) -> str:
    """Return why an image of this size is not decoded, or an empty text.

    Args:
        width: In pixels.
        height: In pixels.
        file_bytes: Size of the file; a large image in a file that is too small for it is not decoded.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        return f'{width} x {height}; OpenCV reads up to {MAX_PIXELS} pixels and sides up to {MAX_SIDE}'
    if file_bytes is not None and width * height > max(_PLAUSIBLE_PIXELS, _MOST_PIXELS_PER_BYTE * file_bytes):
        return f'{width} x {height} in a file of {file_bytes} bytes'
    return ''


def decode(path: str | os.PathLike, flag: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Decode a file as mmcv does; ``cv2.imread`` fails on some paths of Windows and on rotated TIFF files.

    Returns:
        (H, W, 3) uint8 in BGR order for the default flag; None if OpenCV cannot read the file.
    """
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), flag)
    except (OSError, cv2.error):
        return None


def _exif_of_opencv(image: Image.Image, path: str | os.PathLike) -> Image.Exif:
    """Entries of EXIF that OpenCV finds: the first APP1 segment of a JPEG file, the chunk eXIf of a PNG file.

    OpenCV 5 also finds those after an APP1 segment of XMP, and those of a WebP file.
    """
    content = b''
    if image.format in ('JPEG', 'MPO'):
        segments = [data for name, data in image.applist if name == 'APP1']  # type: ignore[attr-defined]
        if _OPENCV_5:
            segments = [data for data in segments if data.startswith(_EXIF_HEADER)]
        content = segments[0] if segments else b''
    elif image.format == 'PNG':
        content = _EXIF_HEADER + _exif_chunk(path)
    elif image.format == 'WEBP' and _OPENCV_5:
        content = _EXIF_HEADER + image.info.get('exif', b'').removeprefix(_EXIF_HEADER)
    found = Image.Exif()
    if content.startswith(_EXIF_HEADER) and len(content) > len(_EXIF_HEADER):
        found.load(content)
    return found


def _exif_chunk(path: str | os.PathLike) -> bytes:
    """Content of the chunk eXIf, also after the pixels; only the chunk headers of the other chunks are read."""
    with open(path, 'rb') as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[:4], 'big')
            if header[4:] == b'eXIf':
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)
    return b''
