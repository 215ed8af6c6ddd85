"""Instance masks and boxes cropped by a ``CropWindow``; boxes are recomputed from the cropped masks."""

from collections.abc import Callable

import cv2
import numpy as np
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from vitdet_plugin.transforms.clip_polygons import clip_polygons
from vitdet_plugin.transforms.crop_window import CropWindow

SelectMasks = Callable[[np.ndarray], BitmapMasks | PolygonMasks]


def crop_boxes(boxes: np.ndarray, window: CropWindow) -> np.ndarray:
    """Transform boxes to the crop and clip them; boxes outside of it get no area.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels of the source.
        window: Flip, scale and crop.

    Returns:
        (N, 4) in pixels of the crop.
    """
    (scale_x, _, shift_x), (_, scale_y, shift_y), _ = window.matrix()
    height, width = window.size
    x = np.sort(boxes[:, 0::2] * scale_x + shift_x, axis=1).clip(0, width)
    y = np.sort(boxes[:, 1::2] * scale_y + shift_y, axis=1).clip(0, height)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


def crop_polygons(masks: PolygonMasks, window: CropWindow) -> tuple[np.ndarray, SelectMasks]:
    """Transform polygons to the crop and clip them.

    Args:
        masks: Polygons of N instances.
        window: Flip, scale and crop.

    Returns:
        Boxes (N, 4) of the clipped polygons in pixels, zeros where nothing remains; and a function from the indices of
        instances to their masks. An instance without a polygon has mmdet's placeholder, one polygon without area.
    """
    parts = [len(polygons) for polygons in masks.masks]
    flat = [polygon for polygons in masks.masks for polygon in polygons]
    boxes = np.zeros((len(parts), 4))
    kept: list[list[np.ndarray]] = [[] for _ in parts]
    if flat:
        matrix = window.matrix()
        points = np.concatenate(flat).reshape(-1, 2) * matrix.diagonal()[:2] + matrix[:2, 2]
        counts = np.array([len(polygon) // 2 for polygon in flat])
        clipped, part_boxes = clip_polygons(points, counts, window.size[1], window.size[0])
        owners = (index for index, count in enumerate(parts) for _ in range(count))
        for index, polygon, box in zip(owners, clipped, part_boxes):
            if len(polygon) < 3:
                continue
            if kept[index]:
                box[:2], box[2:] = np.minimum(boxes[index, :2], box[:2]), np.maximum(boxes[index, 2:], box[2:])
            boxes[index] = box
            kept[index].append(polygon.reshape(-1))

    def select(indices: np.ndarray) -> PolygonMasks:
        return PolygonMasks([kept[index] or [np.zeros(6)] for index in indices], *window.size)

    return boxes, select


def crop_bitmaps(masks: BitmapMasks, window: CropWindow) -> tuple[np.ndarray, SelectMasks]:
    """Crop bitmaps, taking each pixel from the nearest source pixel.

    Only the part of each bitmap that contains its object is read and written, and only selected bitmaps are created.

    Args:
        masks: (N, H, W) bitmaps.
        window: Flip, scale and crop.

    Returns:
        Boxes (N, 4) of the objects in pixels, zeros where nothing remains; and a function from the indices of instances
        to their masks.
    """
    rows, columns = window.nearest_rows_and_columns()
    top, left = rows.min(), columns.min()
    visible = masks.masks[:, top:rows.max() + 1, left:columns.max() + 1]
    rows, columns = rows - top, columns - left
    boxes, parts = np.zeros((len(masks), 4)), {}
    for index, source in enumerate(visible):
        x, y, width, height = cv2.boundingRect(source)
        in_rows = np.flatnonzero((rows >= y) & (rows < y + height))
        in_columns = np.flatnonzero((columns >= x) & (columns < x + width))
        if not len(in_rows) or not len(in_columns):
            continue
        target = np.s_[in_rows[0]:in_rows[-1] + 1, in_columns[0]:in_columns[-1] + 1]
        part = source[:, x:x + width].take(rows[target[0]], axis=0).take(columns[target[1]] - x, axis=1)
        part_x, part_y, part_width, part_height = cv2.boundingRect(part)
        if part_width:
            low = np.array([in_columns[0] + part_x, in_rows[0] + part_y])
            boxes[index] = [*low, *(low + (part_width, part_height))]
            parts[index] = target, part

    def select(indices: np.ndarray) -> BitmapMasks:
        bitmaps = np.zeros((len(indices), *window.size), np.uint8)
        for bitmap, index in zip(bitmaps, indices):
            if index in parts:
                target, part = parts[index]
                bitmap[target] = part
        return BitmapMasks(bitmaps, *window.size)

    return boxes, select
