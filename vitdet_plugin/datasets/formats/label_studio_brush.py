"""Masks of Label Studio: images in data URLs, and run lengths in a stream of bits, as rle-pack of thi.ng writes them.

The stream starts with the number of values (32 bits), the bits of a value minus one (5), and four sizes minus one (4
bits each). Blocks follow until all values are written: a bit that is 1 for a repeated value, the index of one of the
sizes (2 bits), the length minus one in as many bits, and the repeated value or all values. The values are the red,
green, blue and alpha of each pixel, row by row; the alpha of painted pixels is above 0.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

_MOST_VALUES = 2**31


def decode_brush(content: Any, width: int, height: int) -> np.ndarray:
    """Return the (height, width) bool mask of a list of bytes.

    Raises:
        ValueError: The list is not a mask of this size.
    """
    try:
        stream = _Bits(np.array(content, np.uint8))
    except (TypeError, ValueError, OverflowError):
        raise ValueError('the rle of a brush is not a list of bytes') from None
    count = stream.read(32)
    if count != 4 * width * height:
        raise ValueError(f'the rle of a brush contains {count} values in place of {4 * width * height} for an image of '
                         f'{width} x {height}')
    if count > _MOST_VALUES:
        raise ValueError(f'the rle of a brush of an image of {width} x {height} is too large')
    bits = stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    at = 0
    while at < count:
        is_repeated = stream.read(1)
        length = min(stream.read(sizes[stream.read(2)]) + 1, count - at)
        values[at:at + length] = stream.read(bits) != 0 if is_repeated else stream.read_many(length, bits)
        at += length
    return values.reshape(height, width, 4)[..., 3] != 0


def decode_bitmask(url: Any) -> np.ndarray:
    """Return the (height, width) bool mask of an image in a data URL: what is painted in any color.

    Raises:
        ValueError: The text is not the data URL of an image.
    """
    head, _, body = str(url).partition(',')
    if not head.startswith('data:image/') or not head.endswith(';base64'):
        raise ValueError('the imageDataURL of a bitmask does not contain an image (data:image/png;base64,…)')
    try:
        with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as image:
            pixels = np.asarray(image.convert('RGBA'))
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(f'the image of a bitmask cannot be read ({" ".join(str(error).split())[:60]})') from None
    return (pixels[..., 3] > 0) & (pixels[..., :3].any(axis=2) | (pixels[..., 3] < 255).any())


class _Bits:
    """A stream of bits, highest first."""

    def __init__(self, content: np.ndarray) -> None:
        self.bits, self.at = np.unpackbits(content), 0

    def read(self, count: int) -> int:
        """Return the next bits as a number."""
        number = 0
        for bit in self._take(count).tolist():
            number = 2 * number + bit
        return number

    def read_many(self, count: int, bits: int) -> np.ndarray:
        """Return which of the next values, of some bits each, are not 0."""
        return self._take(count * bits).reshape(count, bits).any(axis=1)

    def _take(self, count: int) -> np.ndarray:
        found = self.bits[self.at:self.at + count]
        if len(found) < count:
            raise ValueError('the rle of a brush ends too early')
        self.at += count
        return found
