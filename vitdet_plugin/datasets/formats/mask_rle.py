"""RLE of COCO from parts of objects: bitmaps at a position in the image, polygons with holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitdet_plugin.utils.mask_rle import encode_region, plain_rle


def crop_rle(pixels: np.ndarray, left: int, top: int, width: int, height: int) -> dict:
    """Return the RLE of a part of an image, in time that depends on the size of the part only.

    Args:
        pixels: (h, w) bool array; what lies outside the image is cut off.
        left: Column of its first pixel in the image.
        top: Row of its first pixel.
        width: Of the image in pixels.
        height: Of the image.
    """
    pixels = pixels[max(-top, 0):max(height - top, 0), max(-left, 0):max(width - left, 0)]
    left, top = max(left, 0), max(top, 0)
    return encode_region(pixels, left, top, (height, width))


def polygon_rle(polygons: Sequence[Sequence[float]], holes: Sequence[Sequence[float]], width: int, height: int) -> dict:
    """Return the RLE of the union of polygons ``[x1, y1, ...]`` without that of the holes.

    A pixel belongs to a polygon if its center does; pycocotools adds up to half a pixel at slanted edges.
    """
    corners = np.concatenate([np.reshape(each, (-1, 2)) for each in polygons])
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width, height))
    pixels = np.zeros((bottom - top, right - left), bool)
    for outlines, value in ((polygons, True), (holes, False)):
        for each in outlines:
            pixels[_inside(np.reshape(each, (-1, 2)) - (left, top), *pixels.shape)] = value
    return crop_rle(pixels, int(left), int(top), width, height)


def _inside(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool pixels whose centers are within a polygon (N, 2), by the even-odd rule."""
    changes = np.zeros((height, width + 1), np.int32)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0)):
        if y1 == y2:
            continue
        first, end = (max(int(np.ceil(y - 0.5)), 0) for y in (min(y1, y2), max(y1, y2)))
        rows = np.arange(first, min(end, height))
        crossings = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        changes[rows, np.clip(np.ceil(crossings - 0.5).astype(int), 0, width)] += 1
    return np.cumsum(changes[:, :width], axis=1) % 2 == 1


def unite(masks: Sequence[dict]) -> dict:
    """Return the union of RLEs of the same size."""
    if len(masks) == 1:
        return masks[0]
    from pycocotools import mask as operations
    return plain_rle(operations.merge(list(masks)))
