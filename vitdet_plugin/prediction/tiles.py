"""Prediction of large images in overlapping tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.model import Found
from vitdet_plugin.utils.mask_rle import move_rle

Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the image
_EDGE = 1.5  # pixels from an inner edge of a tile within which a box counts as cut by it
_PART = 0.6  # of the smaller of two boxes inside the other, from which a cut box is a part of the other
_SAME = 0.5  # IoU of two boxes of a class from different tiles, above which the one of lower score is removed


def check_overlap(overlap: float) -> None:
    """Check the part of a tile that it shares with the next one.

    Raises:
        UserError: It is not in [0, 0.9].
    """
    if not 0 <= overlap <= 0.9:
        raise UserError(f'overlap={overlap:g}: give a part of the tile between 0 and 0.9, such as 0.2')


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles.

    Attributes:
        size: Height and width of a tile in pixels of the image.
        overlap: Part of a tile that it shares at least with the next one, at least 0 and below 1. Objects up to this
            size are complete in a tile.

    Raises:
        UserError: A value outside of these ranges.
    """

    size: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.size < 16:
            raise UserError(f'tile={self.size}: give the side of a tile in pixels, at least 16')
        check_overlap(self.overlap)

    def windows(self, shape: tuple[int, int]) -> list[Window]:
        """Return the tiles of an image, and at the end the whole image; none if the image is not larger than a tile.

        Args:
            shape: Height and width of the image.
        """
        height, width = shape
        if max(shape) <= self.size:
            return []
        rows, columns = (self._starts(side) for side in shape)
        tiles = [(x, y, min(x + self.size, width), min(y + self.size, height)) for y in rows for x in columns]
        return [*tiles, (0, 0, width, height)]

    def _starts(self, side: int) -> list[int]:
        """Return the first pixels of the tiles along a side: evenly spaced, the last one ends with the image."""
        if side <= self.size:
            return [0]
        step = max(int(self.size * (1 - self.overlap)), 1)
        count = -(-(side - self.size) // step) + 1
        return [round(index * (side - self.size) / (count - 1)) for index in range(count)]


def merge_tiles(parts: Sequence[Found], windows: Sequence[Window], shape: tuple[int, int], tiling: Tiling) -> Found:
    """Merge what was found in the tiles of an image, with suppression by class between different tiles.

    Of the whole image, only objects count that may be larger than the overlap; smaller ones are complete in a tile,
    where they are larger in the model's input. A box that is cut by an inner edge of its tile gives way to another one
    that contains most of it.

    Args:
        parts: Objects of each window, in pixels of the window.
        windows: See :meth:`Tiling.windows`.
        shape: Height and width of the image.
        tiling: How the image was cut.

    Returns:
        Objects in pixels of the image, sorted by score.
    """
    shared = tiling.size * tiling.overlap
    boxes, scores, labels, tiles, cut = [], [], [], [], []
    for tile, (found, window) in enumerate(zip(parts, windows)):
        moved = found.boxes + np.array(window[:2] * 2, np.float32)
        boxes.append(moved.reshape(-1, 4))
        scores.append(found.scores)
        labels.append(found.labels)
        tiles.append(np.full(len(found), tile))
        cut.append(_is_cut(boxes[-1], window, shape))
    all_boxes, all_scores, all_labels, all_tiles, all_cut = map(np.concatenate, (boxes, scores, labels, tiles, cut))
    sides = np.maximum(all_boxes[:, 2] - all_boxes[:, 0], all_boxes[:, 3] - all_boxes[:, 1])
    usable = (all_tiles != len(windows) - 1) | (sides > shared)
    order = np.lexsort((-all_scores, all_cut))
    kept = _suppress(all_boxes, all_labels, all_tiles, all_cut, order[usable[order]])
    kept = kept[np.argsort(-all_scores[kept], kind='stable')]
    rles = None
    if parts[0].rles is not None:
        starts = np.cumsum([0, *map(len, parts)])
        rles = []
        for index in kept:
            tile = all_tiles[index]
            rle = parts[tile].rles[index - starts[tile]]  # type: ignore[index]
            left, top = windows[tile][:2]
            rles.append(move_rle(rle, left, top, shape))
    return Found(all_boxes[kept], all_scores[kept], all_labels[kept], rles)


def _is_cut(boxes: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Whether boxes (N, 4) end at an edge of their tile that is not an edge of the image."""
    inner = np.array([window[0] > 0, window[1] > 0, window[2] < shape[1], window[3] < shape[0]])
    return ((np.abs(boxes - np.array(window)) <= _EDGE) & inner).any(1)


def _suppress(boxes: np.ndarray, labels: np.ndarray, tiles: np.ndarray, cut: np.ndarray, order: np.ndarray
              ) -> np.ndarray:
    """Return the indices that remain when each box removes later ones of its class from other tiles."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod((high - low).clip(0), axis=1)
        iou = common / np.maximum(areas[best] + areas[order] - common, 1e-9)
        part = common / np.maximum(np.minimum(areas[best], areas[order]), 1e-9)
        is_same = (iou > _SAME) | (cut[order] & (part > _PART))
        order = order[~(is_same & (labels[order] == labels[best]) & (tiles[order] != tiles[best]))]
    return np.array(kept, np.int64)
