"""Masks: paste them into the image, and encode them as COCO's compressed run lengths (RLE)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .resize import resize

Rle = dict[str, Any]  # 'size': [H, W], 'counts': str


def paste_mask(mask: np.ndarray, box: np.ndarray, shape: tuple[int, int], threshold: float) -> Rle:
    """Paste the probabilities of one object into its image, with bilinear interpolation.

    Args:
        mask: (m, m) probabilities over the box.
        box: (4,) x1, y1, x2, y2 in pixels of the image.
        shape: Height and width of the image.
        threshold: Pixels with at least this probability belong to the object.
    """
    region, left, top = paste_region(mask, box, shape)
    return encode_region(region >= threshold, left, top, shape)


def paste_region(mask: np.ndarray, box: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Return the probabilities (h, w) of one object around its box, and the column and row of their first pixel.

    All other pixels of the image have the probability 0. The interpolation is that of mmdet on a CPU, as products of
    matrices, since that of an axis does not depend on the other.

    Args:
        mask, box, shape: As for :func:`paste_mask`.
    """
    (x1, y1, x2, y2), (height, width) = box.astype(np.float32), shape
    if not (np.isfinite(box).all() and x1 < width + 1 and y1 < height + 1 and x2 > -1 and y2 > -1):
        return np.zeros((0, 0), np.float32), 0, 0
    left, top = max(int(np.floor(x1)) - 1, 0), max(int(np.floor(y1)) - 1, 0)
    right, bottom = min(int(np.ceil(x2)) + 1, width), min(int(np.ceil(y2)) + 1, height)
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.float32), 0, 0
    columns = _samples(np.arange(left, right), x1, x2, mask.shape[1])
    rows = _samples(np.arange(top, bottom), y1, y2, mask.shape[0])
    return rows @ mask.astype(np.float32, copy=False) @ columns.T, left, top


def _samples(pixels: np.ndarray, start: np.float32, end: np.float32, count: int) -> np.ndarray:
    """Return the weights (len(pixels), count) with which values between ``start`` and ``end`` give those of pixels."""
    with np.errstate(divide='ignore', invalid='ignore'):
        place = (pixels.astype(np.float32) + np.float32(0.5) - start) / (end - start) * 2 - 1
    place = np.where(np.isfinite(place), place, 0).astype(np.float32)  # of boxes without extent, as mmdet does
    place = ((place + 1) * count - 1) / 2
    return (1 - np.abs(place[:, None] - np.arange(count, dtype=np.float32))).clip(0)


def fit_mask(mask: np.ndarray, offset: tuple[float, float], content: tuple[int, int], shape: tuple[int, int]) -> Rle:
    """Cut the part of a mask (H, W) of the model's input that shows the image, and resize it to the image.

    Args:
        mask: 0 or 1.
        offset: Position (x, y) of the image in the input.
        content: Height and width of the image in the input.
        shape: Height and width of the image.
    """
    left, top = (max(round(value), 0) for value in offset)
    part = mask[top:top + content[0], left:left + content[1]].astype(np.float32)
    return encode_region(resize(part, shape[::-1], 'bilinear') >= 0.5, 0, 0, shape)


def encode_region(region: np.ndarray, left: int, top: int, shape: tuple[int, int]) -> Rle:
    """Encode a mask of which only a rectangle is given; all other pixels of the image are 0.

    Args:
        region: (h, w) bool, a rectangle of the mask.
        left, top: Column and row of the region's first pixel.
        shape: Height and width of the image.
    """
    height, width = shape
    padded = np.zeros((region.shape[1], region.shape[0] + 2), np.int8)  # columns, as RLE runs down the columns
    padded[:, 1:-1] = region.T
    columns, rows = np.nonzero(np.diff(padded, axis=1))
    edges = (columns + left) * height + rows + top  # starts and ends of runs in turn
    same = np.flatnonzero(edges[1:-1:2] == edges[2::2])  # a run that goes on in the next column
    edges = np.delete(edges, np.concatenate([2 * same + 1, 2 * same + 2]))
    counts = np.diff(np.concatenate([[0], edges, [height * width]]))
    counts = counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts  # as pycocotools writes it
    return dict(size=list(shape), counts=_to_text(counts))


def decode_mask(rle: Rle) -> np.ndarray:
    """Return the mask (H, W) bool of an RLE."""
    height, width = rle['size']
    counts = _counts(rle)
    values = np.arange(len(counts)) % 2 == 1
    flat = np.zeros(height * width, bool)
    filled = np.repeat(values, counts)
    flat[:len(filled)] = filled
    return flat.reshape(width, height).T


def mask_area(rle: Rle) -> int:
    """Return the number of pixels of an RLE."""
    return int(_counts(rle)[1::2].sum())


def _counts(rle: Rle) -> np.ndarray:
    counts = decode_counts(rle['counts'])
    if counts is None:
        raise ValueError(f'not the run lengths of a mask: {rle["counts"]!r:.40}')
    return counts


def _to_text(counts: np.ndarray) -> str:
    """Write run lengths as COCO does: differences to the one before the last in groups of 5 bits, lowest first."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    number = np.arange(int(np.abs(values).max()).bit_length() // 5 + 1)  # with the sign
    groups = values[:, None] >> 5 * number
    last = (groups >> 5 == -(groups >> 4 & 1)).argmax(1)[:, None]  # what is left is the sign
    characters = (groups & 31) + 32 * (number < last) + 48
    return characters[number <= last].astype(np.uint8).tobytes().decode('ascii')


def decode_counts(text: str) -> np.ndarray | None:
    """Decode the run lengths of a compressed RLE, or return None if the text is not one.

    A run length is written in groups of 5 bits, lowest first; bit 5 of a character says that another one follows, and
    bit 4 of the last one is the sign. From the fourth on, the difference to the run length two before is written.
    """
    groups = np.frombuffer(text.encode('utf-8', 'replace'), np.uint8).astype(np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        return None
    ends = np.flatnonzero((groups & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:
        return None
    position = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    counts = np.add.reduceat((groups & 31) << (5 * position), starts)
    counts -= np.where(groups[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)
    for first in (1, 2):
        counts[first::2] = np.cumsum(counts[first::2])
    return counts
