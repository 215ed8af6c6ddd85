"""Flip, resize and crop as one step: only the part of the image inside the crop is resized."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

# Sampling positions may be off by this fraction of a source pixel, so a value changes by less than 0.5 along each axis
# for any image, and by at most one level after rounding.
_ALIGNMENT = 1 / 600


@dataclass(frozen=True)
class CropWindow:
    """An optional horizontal flip, then a resize to ``scaled``, then a crop of ``size`` pixels at ``offset``.

    Attributes:
        source: (height, width) of the image in pixels.
        scaled: (height, width) after resizing.
        offset: (y, x) of the crop in the resized image.
        size: (height, width) of the crop.
        flip: Whether the image is mirrored left and right first.
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    flip: bool

    @property
    def factor(self) -> tuple[float, float]:
        """Scaled size / source size, (y, x)."""
        return self.scaled[0] / self.source[0], self.scaled[1] / self.source[1]

    def matrix(self) -> np.ndarray:
        """Return the (3, 3) homography from points (x, y, 1) of the source to the crop."""
        (factor_y, factor_x), (offset_y, offset_x) = self.factor, self.offset
        if self.flip:
            x_row = [-factor_x, 0, self.source[1] * factor_x - offset_x]
        else:
            x_row = [factor_x, 0, -offset_x]
        return np.array([x_row, [0, factor_y, -offset_y], [0, 0, 1]], dtype=np.float64)

    def nearest_rows_and_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest source row of each row of the crop, (h,), and source column of each column, (w,)."""
        rows, columns = (np.minimum(((np.arange(offset, offset + size) + 0.5) / factor).astype(np.intp), source - 1)
                         for offset, size, factor, source in zip(self.offset, self.size, self.factor, self.source))
        return rows, self.source[1] - 1 - columns if self.flip else columns


def jitter_window(source: tuple[int, int], image_size: int, relative_scale: float, position: float, flip: bool
                  ) -> CropWindow:
    """Return the window of detectron2's ``ResizeScale`` and ``FixedSizeCrop`` for given random numbers.

    Args:
        source: (height, width) of the image in pixels.
        image_size: Side of the crop in pixels.
        relative_scale: The image is fitted into a square of ``relative_scale * image_size``, with its aspect ratio.
        position: In [0, 1], one number for both axes: 0 keeps the top left corner, 1 the bottom right one.
        flip: Whether to mirror left and right first.
    """
    fit = min(image_size * relative_scale / length for length in source)
    scaled = tuple(max(round(length * fit), 1) for length in source)
    offset = tuple(round(max(length - image_size, 0) * position) for length in scaled)
    return CropWindow(source, scaled, offset, tuple(min(length, image_size) for length in scaled), flip)


def resize_and_crop(image: np.ndarray, window: CropWindow, backend: str = 'cv2') -> np.ndarray:
    """Return the pixels of the crop with bilinear interpolation.

    Args:
        image: uint8 (H, W, C) or (H, W).
        window: Flip, scale and crop.
        backend: ``cv2`` samples four source pixels; ``pillow`` averages over the area of a target pixel (antialiasing),
            as detectron2 does. They only differ where the image becomes smaller, so Pillow is only called there;
            otherwise the result of OpenCV, which is several times as fast, is equal up to rounding.

    Returns:
        uint8 (height, width, C) or (height, width).
    """
    if backend == 'pillow' and min(window.factor) < 1:
        return _pillow(image, window)
    (first_y, last_y, skip_y), (first_x, last_x, skip_x) = (
        _aligned_span(*axis) for axis in zip(window.source, window.scaled, window.offset, window.size))
    edge_y, edge_x = (tuple(round(end / factor) for end in ends)
                      for ends, factor in zip(((first_y, last_y), (first_x, last_x)), window.factor))
    part = _source_part(image, window, edge_y, edge_x)
    if (last_y - first_y, last_x - first_x) != part.shape[:2]:
        part = cv2.resize(part, (last_x - first_x, last_y - first_y), interpolation=cv2.INTER_LINEAR)
    return part[skip_y:skip_y + window.size[0], skip_x:skip_x + window.size[1]]


def _source_part(image: np.ndarray, window: CropWindow, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Return the part [rows) x [columns) of the flipped image; only this part is mirrored."""
    if not window.flip:
        return image[rows[0]:rows[1], columns[0]:columns[1]]
    width = window.source[1]
    return cv2.flip(image[rows[0]:rows[1], width - columns[1]:width - columns[0]], 1)


def _aligned_span(source: int, scaled: int, offset: int, size: int) -> tuple[int, int, int]:
    """Find the smallest span of scaled pixels around the crop whose ends fall on edges of source pixels.

    Resizing the source pixels between those edges samples at the same positions as resizing the whole image. OpenCV
    cannot start at a fraction of a pixel (and its warps round positions to 1/32), so the span is longer than the crop.

    Args:
        source: Length of one axis of the image in pixels.
        scaled: Length after resizing.
        offset: Start of the crop.
        size: Length of the crop.

    Returns:
        First and last (exclusive) scaled pixel of the span, and the number of its pixels before the crop.
    """
    if size == scaled:
        return 0, scaled, 0
    step = source / scaled
    margin = int(np.ceil(0.5 / step)) + 1  # border pixels are replicated within half a source pixel of an end
    before = np.arange(max(offset - margin, 0), -1, -1)
    after = np.arange(min(offset + size + margin, scaled), scaled + 1)
    first, last = (int(ends[np.argmax(np.abs(ends * step - np.round(ends * step)) <= _ALIGNMENT)])
                   for ends in (before, after))
    return first, last, offset - first


def _pillow(image: np.ndarray, window: CropWindow) -> np.ndarray:
    (factor_y, factor_x), (top, left), (height, width) = window.factor, window.offset, window.size
    # Only the source pixels under the filter are converted to a Pillow image; the argument `box` samples exactly.
    spans = []
    for start, length, factor, source in ((top, height, factor_y, window.source[0]),
                                          (left, width, factor_x, window.source[1])):
        reach = max(1.0, 1 / factor) + 1
        low = max(0, int(np.floor(start / factor - reach)))
        spans.append((low, min(source, int(np.ceil((start + length) / factor + reach)))))
    part = _source_part(image, window, *spans)
    box = (left / factor_x - spans[1][0], top / factor_y - spans[0][0],
           min((left + width) / factor_x - spans[1][0], part.shape[1]),
           min((top + height) / factor_y - spans[0][0], part.shape[0]))
    return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR, box=box))
