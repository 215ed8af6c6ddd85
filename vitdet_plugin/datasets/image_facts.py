"""What one picture is: size, mode, whether it can be read to its end, and fingerprints to find its doubles by."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

HASH_SIDE = 16  # 16 x 16 comparisons of neighbours: 256 bits
_EXIF_ORIENTATION = 0x0112
_FORMAT_OF = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.jpe': 'JPEG', '.jfif': 'JPEG', '.png': 'PNG', '.bmp': 'BMP',
              '.dib': 'BMP', '.webp': 'WEBP', '.tif': 'TIFF', '.tiff': 'TIFF', '.gif': 'GIF', '.avif': 'AVIF'}


@dataclass
class ImageFacts:
    """Facts of a picture that could be read.

    Attributes:
        width, height: in pixels as stored, before any EXIF rotation.
        mode: PIL's name: RGB, L, RGBA, CMYK, I;16 …
        bytes: size of the file.
        digest: of the decoded pixels; equal for equal pictures in different lossless files.
        bits: (256,) int8 of -1 and 1: which of two neighbours is brighter in a reduced picture; few differ between
            two copies that were resized or compressed.
        rotated: whether EXIF asks for turning it.
        format: what the file is, where its suffix says otherwise; empty where they agree.
    """

    width: int
    height: int
    mode: str
    bytes: int
    digest: str
    bits: np.ndarray
    rotated: bool
    format: str


def inspect_image(path: Path) -> ImageFacts | str:
    """Read a picture to its last byte; the reason in a few words if that fails."""
    try:
        size = path.stat().st_size
        if size == 0:
            return 'empty file'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # PIL warns of odd EXIF entries
            with Image.open(path) as image:
                image.load()  # unlike OpenCV it refuses a truncated file
                turned = image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1)
                told = _FORMAT_OF.get(path.suffix.lower(), image.format)
                grey = np.asarray(image.convert('L').resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), np.int16)
                plain = image.convert('RGB') if image.mode == 'P' else image
                digest = hashlib.blake2b(f'{plain.mode}{plain.size}'.encode() + plain.tobytes(), digest_size=16)
                return ImageFacts(*image.size, image.mode, size, digest.hexdigest(),
                                  np.where(np.diff(grey, axis=1) > 0, 1, -1).astype(np.int8).ravel(), turned,
                                  '' if told == image.format else str(image.format))
    except FileNotFoundError:
        return 'missing'
    except UnidentifiedImageError:
        return 'no picture'
    except Image.DecompressionBombError:
        return 'more pixels than PIL allows'
    except Exception as error:  # decoders raise many kinds
        return ' '.join(str(error).split())[:80] or type(error).__name__
