"""Instance masks and boxes seen through a ``CropWindow``; boxes are recomputed from what is left of the masks."""

import cv2
import numpy as np
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from vitdet_plugin.data.clip_polygons import clip_polygons
from vitdet_plugin.data.crop_window import CropWindow


def crop_boxes(boxes: np.ndarray, window: CropWindow) -> np.ndarray:
    """Boxes (N, 4), x1 y1 x2 y2 in the source, clipped to the crop; those outside come out without area."""
    (scale_x, _, shift_x), (_, scale_y, shift_y), _ = window.matrix()
    height, width = window.size
    x = np.sort(boxes[:, 0::2] * scale_x + shift_x, axis=1).clip(0, width)
    y = np.sort(boxes[:, 1::2] * scale_y + shift_y, axis=1).clip(0, height)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


def crop_polygons(masks: PolygonMasks, window: CropWindow) -> tuple[PolygonMasks, np.ndarray]:
    """Polygons in the crop and the boxes (N, 4) around them.

    An instance of which nothing is left has a box of zeros and mmdet's placeholder, one polygon without area.
    """
    parts = [len(polygons) for polygons in masks.masks]
    flat = [polygon for polygons in masks.masks for polygon in polygons]
    height, width = window.size
    boxes = np.zeros((len(parts), 4))
    if not flat:
        return PolygonMasks([[np.zeros(6)] for _ in parts], height, width), boxes
    points = np.concatenate(flat).reshape(-1, 2)
    matrix = window.matrix()
    points = points * np.diag(matrix)[:2] + matrix[:2, 2]
    clipped, part_boxes = clip_polygons(points, np.array([len(polygon) // 2 for polygon in flat]), width, height)
    kept, start = [], 0
    for index, count in enumerate(parts):
        whole = [number for number in range(start, start + count) if len(clipped[number]) >= 3]
        start += count
        kept.append([clipped[number].reshape(-1) for number in whole] or [np.zeros(6)])
        if whole:
            boxes[index, :2] = part_boxes[whole, :2].min(0)
            boxes[index, 2:] = part_boxes[whole, 2:].max(0)
    return PolygonMasks(kept, height, width), boxes


def crop_bitmaps(masks: BitmapMasks, window: CropWindow) -> tuple[BitmapMasks, np.ndarray]:
    """Bitmaps in the crop (nearest source pixel) and the boxes (N, 4) around them; zeros where nothing is left.

    Only the part of each bitmap that holds its object is read and written.
    """
    rows, columns = window.nearest_rows_and_columns()
    bitmaps = np.zeros((len(masks), *window.size), np.uint8)
    boxes = np.zeros((len(masks), 4))
    for bitmap, source, box in zip(bitmaps, masks.masks, boxes):
        x, y, width, height = cv2.boundingRect(source)
        in_rows = np.flatnonzero((rows >= y) & (rows < y + height))
        in_columns = np.flatnonzero((columns >= x) & (columns < x + width))
        if not len(in_rows) or not len(in_columns):
            continue
        target = np.s_[in_rows[0]:in_rows[-1] + 1, in_columns[0]:in_columns[-1] + 1]
        part = source[:, x:x + width].take(rows[target[0]], axis=0).take(columns[target[1]] - x, axis=1)
        bitmap[target] = part
        left, top, part_width, part_height = cv2.boundingRect(part)
        if part_width:
            box[:] = left, top, left + part_width, top + part_height
            box += np.tile([in_columns[0], in_rows[0]], 2)
    return BitmapMasks(bitmaps, *window.size), boxes
