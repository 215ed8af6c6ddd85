"""Decode an uploaded image in memory, after its header was checked."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vitdet_plugin.datasets.image_reader import declared_orientation
from vitdet_plugin.engine.image_arrays import decode_image
from vitdet_plugin.errors import UserError
from vitdet_plugin.serving.faults import RequestFault

FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM', 'JPEG2000', 'AVIF')
_PREVIEW_SIDE = 2400  # pixels of the longer side
_OPTIONAL = ('GIF', 'JPEG2000', 'AVIF')  # not in every build of OpenCV
_HEIF_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')
_NAMES = 'JPEG, PNG, WebP, BMP, TIFF'


class Decoded(NamedTuple):
    """An uploaded image.

    Attributes:
        image: uint8, (H, W, 3) in BGR order or (H, W) in gray.
        may_differ: Whether the file declares an orientation, which browsers apply in other kinds of files than OpenCV.
    """

    image: np.ndarray
    may_differ: bool


def decode_upload(content: bytes, max_pixels: int, color_type: str) -> Decoded:
    """Decode an uploaded image.

    Args:
        content: Content of an image file.
        max_pixels: Most pixels that are decoded.
        color_type: How the model's pipeline decodes files.

    Raises:
        RequestFault: It is not an image, damaged, too large, or has several frames.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_known_formats()) as image:
            _check_header(image, max_pixels)
            kind = 'JPEG' if image.format == 'MPO' else str(image.format)
            # Pillow would decode the pixels of a PNG file to find its orientation
            may_differ = b'eXIf' in content if kind == 'PNG' else declared_orientation(image) != 1
    except RequestFault:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RequestFault(413, f'the image has more than {_mega(max_pixels)} million pixels; upload a smaller one'
                           ) from error
    except UnidentifiedImageError as error:
        raise RequestFault(415, _explain_unknown(content)) from error
    except Exception as error:  # decoders raise almost anything on damaged data
        raise RequestFault(400, f'the header of the image is damaged ({_line(error)}); upload another file') from error
    try:
        return Decoded(decode_image(content, color_type), may_differ)
    except (UserError, cv2.error) as error:
        reason = ', or OpenCV was built without this format' if kind in _OPTIONAL else ''
        raise RequestFault(400, f'the {kind} image cannot be decoded: it ends early or is damaged{reason}; upload '
                           'the complete file') from error


def encode_jpeg(image: np.ndarray) -> bytes:
    """Return an image (H, W, 3) uint8 in BGR order as JPEG, reduced to a longer side of at most 2400 pixels."""
    height, width = image.shape[:2]
    if max(height, width) > _PREVIEW_SIDE:
        scale = _PREVIEW_SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode('.jpg', image)[1].tobytes()


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_header(image: Any, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RequestFault(413, f'the image has {width} x {height} pixels, more than {_mega(max_pixels)} million; '
                           'upload a smaller one')
    if image.format != 'MPO' and getattr(image, 'is_animated', False):  # MPO: a photo and its preview
        what = 'pages' if image.format == 'TIFF' else 'frames'
        raise RequestFault(415, f'the {image.format} file has several {what}; upload one of them as an image')
    if image.format == 'TIFF' and image.mode in ('F', 'I'):
        raise RequestFault(415, 'the TIFF file has 32 bits per value; upload an image with 8 or 16 bits')


def _explain_unknown(content: bytes) -> str:
    if content[4:8] == b'ftyp' and content[8:12] in _HEIF_BRANDS:
        return 'HEIC images are not supported; convert the image to JPEG or PNG'
    if content[:5] == b'%PDF-':
        return 'a PDF file is not an image; upload a page of it as PNG or JPEG'
    return f'the file is not an image in a known format; upload {_NAMES}'


def _mega(value: int) -> str:
    return f'{value / 1e6:g}'


def _line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:80] or type(error).__name__
