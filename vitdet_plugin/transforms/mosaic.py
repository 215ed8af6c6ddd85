"""Mosaic and random affine in one step (mosaic: YOLOv4, arXiv 2004.10934, section 3.3; geometry as in YOLOv5)."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS
from numpy import random

from vitdet_plugin.transforms.random_affine import draw_matrix, put_annotations, transform_boxes


def tile_places(centre: tuple[int, int], sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Upper left corners of four tiles (width, height) that meet at ``centre``: upper left, upper right, lower ones."""
    (x, y), (a, b, c, _) = centre, sizes
    return [(x - a[0], y - a[1]), (x, y - b[1]), (x - c[0], y), (x, y)]


@TRANSFORMS.register_module()
class MosaicAffine(BaseTransform):
    """Four pictures around a random point, then a random affine transformation of the whole, each pixel warped once.

    The same geometry as mmdet's ``Mosaic`` (a canvas of twice the size) followed by :class:`CentredRandomAffine` with
    ``border=(-img_size // 2,) * 2``, but each picture goes from the file's pixels straight to its place in the output:
    no canvas is filled, nothing is interpolated twice.

    To be used in mmdet's ``MultiImageMixDataset``, after loading and annotations. Required keys: img, gt_bboxes,
    gt_bboxes_labels, gt_ignore_flags, mix_results (three of the same). Changed: these and img_shape.

    Args:
        img_size: side of the output; each picture's longer side becomes as long before the affine transformation.
        centre: range of the point where the pictures meet, in shares of ``img_size``.
        degrees, translate, scale, shear, min_side, max_aspect, min_area, fill: see :class:`CentredRandomAffine`.
    """

    def __init__(self, img_size: int = 640, centre: tuple[float, float] = (0.5, 1.5), degrees: float = 0.0,
                 translate: float = 0.1, scale: float = 0.5, shear: float = 0.0, min_side: float = 2,
                 max_aspect: float = 100, min_area: float = 0.1, fill: int = 114) -> None:
        self.img_size, self.centre, self.fill = img_size, centre, fill
        self.geometry = dict(degrees=degrees, translate=translate, scale=scale, shear=shear)
        self.filter = dict(min_side=min_side, max_aspect=max_aspect, min_area=min_area)

    def get_indexes(self, dataset) -> list[int]:
        """Three more pictures of the data set."""
        return [random.randint(0, len(dataset)) for _ in range(3)]

    @cache_randomness
    def _draw(self) -> tuple[tuple[int, int], np.ndarray, float]:
        size = self.img_size
        centre = tuple(int(random.uniform(*self.centre) * size) for _ in range(2))
        return centre, *draw_matrix((2 * size, 2 * size), (size, size), **self.geometry)

    def transform(self, results: dict) -> dict:
        """See the class."""
        size = self.img_size
        parts = [results, *results['mix_results']]
        centre, matrix, scale = self._draw()
        ratios = [size / max(part['img'].shape[:2]) for part in parts]
        sizes = [tuple(int(side * ratio) for side in part['img'].shape[1::-1]) for part, ratio in zip(parts, ratios)]
        picture = np.full((size, size, 3), self.fill, np.uint8)
        boxes, labels, ignored = [], [], []
        for part, ratio, tile, place in zip(parts, ratios, sizes, tile_places(centre, sizes), strict=True):
            _warp_tile(picture, part['img'], tile, place, matrix, 2 * size)
            own = part['gt_bboxes'].tensor.numpy().astype(float) * ratio + np.array(place * 2)
            boxes.append(own.clip(0, 2 * size))
            labels.append(part['gt_bboxes_labels'])
            ignored.append(part['gt_ignore_flags'])
        moved, keep = transform_boxes(np.concatenate(boxes), matrix, scale, (size, size), **self.filter)
        results['img'], results['img_shape'] = picture, (size, size)
        put_annotations(results, moved[keep], np.concatenate(labels)[keep], np.concatenate(ignored)[keep])
        return results


def _warp_tile(picture: np.ndarray, tile: np.ndarray, tile_size: tuple[int, int], place: tuple[int, int],
               matrix: np.ndarray, canvas: int) -> None:
    """Draw into ``picture`` what of the tile lies on the canvas; ``matrix`` leads from the canvas to the picture."""
    low = np.maximum(place, 0)
    high = np.minimum(np.add(place, tile_size), canvas)
    if (high <= low).any():
        return
    corners = np.array([[low[0], low[1], 1], [high[0], low[1], 1], [low[0], high[1], 1], [high[0], high[1], 1]])
    corners = corners @ matrix[:2].T
    start = np.ceil(corners.min(0) - 0.5).clip(0).astype(int)
    end = np.minimum(np.ceil(corners.max(0) - 0.5).astype(int), picture.shape[1::-1])
    if (end <= start).any():
        return
    # pixels of the tile to the canvas, about their centres as cv2.resize has it; then to the part of the picture
    ratio = np.array(tile_size) / tile.shape[1::-1]
    offset = np.array(place) + 0.5 * ratio - 0.5
    to_canvas = np.array([[ratio[0], 0, offset[0]], [0, ratio[1], offset[1]], [0, 0, 1]])
    to_part = np.array([[1, 0, -start[0]], [0, 1, -start[1]], [0, 0, 1]]) @ matrix @ to_canvas
    part = picture[start[1]:end[1], start[0]:end[0]]
    size = tuple(int(side) for side in end - start)
    drawn = cv2.warpAffine(tile, to_part[:2], size, borderMode=cv2.BORDER_REPLICATE)
    if matrix[0, 1] == matrix[1, 0] == 0:  # upright: the tile fills the part
        part[:] = drawn
        return
    on_canvas = np.zeros(tile.shape[:2], np.uint8)
    first, last = (np.round((edge - np.array(place)) / ratio).astype(int) for edge in (low, high))
    on_canvas[first[1]:last[1], first[0]:last[0]] = 255
    inside = cv2.warpAffine(on_canvas, to_part[:2], size, flags=cv2.INTER_NEAREST)
    np.copyto(part, drawn, where=(inside > 0)[..., None])
