"""Properties of one image file: size, mode, EXIF orientation, format, whether it decodes, and fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

FINGERPRINT_SIDE = 16  # 16 x 16 comparisons of neighboring pixels: 256 bits
_EXIF_ORIENTATION = 0x0112
_TRANSPOSING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_FORMAT_OF = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.jpe': 'JPEG', '.jfif': 'JPEG', '.png': 'PNG', '.bmp': 'BMP',
              '.dib': 'BMP', '.webp': 'WEBP', '.tif': 'TIFF', '.tiff': 'TIFF', '.gif': 'GIF', '.avif': 'AVIF'}


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
        orientation: EXIF orientation, 1 to 8; 1 is upright. 0 occurs in files and means the same.
        other_format: Format of the content if the suffix is that of another format, otherwise empty.
        bytes: Size of the file.
        digest: Hash of the decoded pixels, equal for the same pixels in different lossless files; None without
            ``fingerprints``.
        bits: (256,) int8 of -1 and 1: which of two neighboring pixels of a reduced image is brighter. Few bits differ
            between copies that were resized or compressed again. None without ``fingerprints``.
    """

    width: int
    height: int
    mode: str
    orientation: int
    other_format: str
    bytes: int
    digest: str | None = None
    bits: np.ndarray | None = None

    @property
    def is_rotated(self) -> bool:
        """Whether EXIF requests a rotation or reflection."""
        return self.orientation not in (0, 1)

    @property
    def size_as_read(self) -> tuple[int, int]:
        """(width, height) that training gets: OpenCV, and so mmcv, applies the EXIF orientation."""
        return (self.height, self.width) if self.orientation in _TRANSPOSING else (self.width, self.height)

    def compare_size(self, annotated: tuple[float, float]) -> str:
        """Return how the size differs from the annotated (width, height); empty if it does not."""
        read = self.size_as_read
        if tuple(annotated) == read:
            return ''
        text = f'{read[0]} x {read[1]}, annotated {annotated[0]} x {annotated[1]}'
        if tuple(annotated) == (self.width, self.height):
            text += '; the file has an EXIF orientation that readers apply: store the pixels rotated instead'
        return text


def probe_image(path: str | Path, decode: bool = True, fingerprints: bool = False) -> ImageProbe | UnreadableImage:
    """Open an image file once and return its properties, or why it cannot be read.

    Pillow warns about odd EXIF entries and large images; use :func:`suppress_pillow_warnings` around a series of calls.

    Args:
        path: Image file with any suffix.
        decode: Decode all pixels. This finds truncated files, which OpenCV fills with gray. Otherwise only the header
            is read.
        fingerprints: Also compute ``digest`` and ``bits``; needs ``decode``.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return UnreadableImage('is missing')
        if path.stat().st_size == 0:
            return UnreadableImage('is empty')
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float('inf')):
                return UnreadableImage('is implausibly large')
            if decode:
                image.load()
            return _probe(image, path, decode, decode and fingerprints)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return UnreadableImage('is implausibly large')
    except UnidentifiedImageError:
        return UnreadableImage('has no known image format')
    except Exception as error:  # decoders raise almost anything on damaged data
        return UnreadableImage('cannot be decoded to its end', ' '.join(str(error).split())[:80])


@contextlib.contextmanager
def suppress_pillow_warnings() -> Iterator[None]:
    """Discard warnings. The filter applies to the whole process: enter this once around all threads, not in each."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def _probe(image: Image.Image, path: Path, decode: bool, fingerprints: bool) -> ImageProbe:
    has_exif = decode or image.format != 'PNG' or 'exif' in image.info  # otherwise Pillow decodes a PNG to look for it
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if has_exif else 1
    expected_format = _FORMAT_OF.get(path.suffix.lower(), image.format)
    return ImageProbe(
        *image.size, image.mode, orientation, '' if expected_format == image.format else str(image.format),
        path.stat().st_size, _digest(image) if fingerprints else None, _bits(image) if fingerprints else None)


def _digest(image: Image.Image) -> str:
    plain = image.convert('RGB') if image.mode == 'P' else image
    return hashlib.blake2b(f'{plain.mode}{plain.size}'.encode() + plain.tobytes(), digest_size=16).hexdigest()


def _bits(image: Image.Image) -> np.ndarray:
    side = FINGERPRINT_SIDE
    gray = np.asarray(image.convert('L').resize((side + 1, side), Image.Resampling.BOX), np.int16)
    return np.where(np.diff(gray, axis=1) > 0, 1, -1).astype(np.int8).ravel()
