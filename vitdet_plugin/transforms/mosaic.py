"""Mosaic and random affine in one step (mosaic: YOLOv4, arXiv 2004.10934, section 3.3; geometry as in YOLOv5)."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS
from numpy import random

from vitdet_plugin.transforms.random_affine import check_options, draw_matrix, put_annotations, transform_boxes
from vitdet_plugin.utils.arguments import check_interval, check_whole


def tile_positions(center: tuple[int, int], sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the upper left corners of four tiles that meet at a point.

    Args:
        center: The point (x, y) in pixels.
        sizes: (width, height) of the tiles: upper left, upper right, lower left, lower right.

    Returns:
        (x, y) of each tile in pixels; may be negative.
    """
    (x, y), (a, b, c, _) = center, sizes
    return [(x - a[0], y - a[1]), (x, y - b[1]), (x - c[0], y), (x, y)]


@TRANSFORMS.register_module()
class MosaicAffine(BaseTransform):
    """Arrange four images around a random point and apply a random affine transformation to the result.

    The geometry is that of mmdet's ``Mosaic`` (a canvas of twice the size) followed by :class:`CenteredRandomAffine`
    with ``border=(-img_size // 2,) * 2``, but each image is warped directly to its position in the output: no canvas
    is allocated and no pixel is interpolated twice.

    For mmdet's ``MultiImageMixDataset``, after loading of images and annotations. Required keys: img (H, W, 3) uint8,
    gt_bboxes, gt_bboxes_labels, gt_ignore_flags, mix_results (three with the same keys). Changed: these and img_shape.

    Args:
        img_size: Side of the output in pixels. The longer side of each image has this length before the affine
            transformation.
        center: Range of the x and y coordinate of the point where the images meet, in units of ``img_size``.
        degrees: See :func:`vitdet_plugin.transforms.random_affine.draw_matrix`.
        translate: Likewise.
        scale: Likewise.
        shear: Likewise.
        min_side: See :func:`vitdet_plugin.transforms.random_affine.transform_boxes`.
        max_aspect: Likewise.
        min_area: Likewise.
        fill: Gray value outside the images.

    The British form of ``center`` is accepted too, for existing configs.
    """

    def __init__(self, img_size: int = 640, center: tuple[float, float] = (0.5, 1.5), degrees: float = 0.0,
                 translate: float = 0.1, scale: float = 0.5, shear: float = 0.0, min_side: float = 2,
                 max_aspect: float = 100, min_area: float = 0.1, fill: int = 114,
                 centre: tuple[float, float] | None = None) -> None:  # language: ok
        check_whole(1, img_size=img_size)
        self.img_size, self.fill = img_size, fill
        self.center = center if centre is None else centre  # language: ok
        check_interval(0, 2, center=self.center)
        self.geometry = dict(degrees=degrees, translate=translate, scale=scale, shear=shear)
        self.filter = dict(min_side=min_side, max_aspect=max_aspect, min_area=min_area)
        check_options(fill, **self.geometry, **self.filter)

    def get_indexes(self, dataset) -> list[int]:
        """Return the indices of three more images of the data set."""
        return [random.randint(0, len(dataset)) for _ in range(3)]

    @cache_randomness
    def _draw(self) -> tuple[tuple[int, int], np.ndarray, float]:
        size = self.img_size
        center = tuple(int(random.uniform(*self.center) * size) for _ in range(2))
        return center, *draw_matrix((2 * size, 2 * size), (size, size), **self.geometry)

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        size = self.img_size
        parts = [results, *results['mix_results']]
        center, matrix, scale = self._draw()
        ratios = [size / max(part['img'].shape[:2]) for part in parts]
        sizes = [tuple(int(side * ratio) for side in part['img'].shape[1::-1]) for part, ratio in zip(parts, ratios)]
        image = np.full((size, size, 3), self.fill, np.uint8)
        boxes, labels, ignored = [], [], []
        for part, ratio, tile_size, position in zip(parts, ratios, sizes, tile_positions(center, sizes), strict=True):
            _warp_tile(image, part['img'], tile_size, position, matrix, 2 * size)
            on_canvas = part['gt_bboxes'].tensor.numpy().astype(float) * ratio + np.array(position * 2)
            boxes.append(on_canvas.clip(0, 2 * size))
            labels.append(part['gt_bboxes_labels'])
            ignored.append(part['gt_ignore_flags'])
        moved, keep = transform_boxes(np.concatenate(boxes), matrix, scale, (size, size), **self.filter)
        results['img'], results['img_shape'] = image, (size, size)
        put_annotations(results, moved[keep], np.concatenate(labels)[keep], np.concatenate(ignored)[keep])
        return results


def _warp_tile(image: np.ndarray, tile: np.ndarray, tile_size: tuple[int, int], position: tuple[int, int],
               matrix: np.ndarray, canvas: int) -> None:
    """Draw the part of a tile that lies on the canvas into the output image, in place.

    Args:
        image: (S, S, 3) output.
        tile: (H, W, 3) image before resizing.
        tile_size: (width, height) of the tile on the canvas in pixels.
        position: (x, y) of its upper left corner on the canvas.
        matrix: (3, 3) from the canvas to the output.
        canvas: Side of the canvas in pixels.
    """
    low = np.maximum(position, 0)
    high = np.minimum(np.add(position, tile_size), canvas)
    if (high <= low).any():
        return
    corners = np.array([[low[0], low[1], 1], [high[0], low[1], 1], [low[0], high[1], 1], [high[0], high[1], 1]])
    corners = corners @ matrix[:2].T
    start = np.ceil(corners.min(0) - 0.5).clip(0).astype(int)
    end = np.minimum(np.ceil(corners.max(0) - 0.5).astype(int), image.shape[1::-1])
    if (end <= start).any():
        return
    # from pixel centers of the tile to the canvas, as in cv2.resize; then to the part of the output
    ratio = np.array(tile_size) / tile.shape[1::-1]
    offset = np.array(position) + 0.5 * ratio - 0.5
    to_canvas = np.array([[ratio[0], 0, offset[0]], [0, ratio[1], offset[1]], [0, 0, 1]])
    to_part = np.array([[1, 0, -start[0]], [0, 1, -start[1]], [0, 0, 1]]) @ matrix @ to_canvas
    part = image[start[1]:end[1], start[0]:end[0]]
    size = tuple(int(side) for side in end - start)
    drawn = cv2.warpAffine(tile, to_part[:2], size, borderMode=cv2.BORDER_REPLICATE)
    if matrix[0, 1] == matrix[1, 0] == 0:  # no rotation or shear: the tile fills the part
        part[:] = drawn
        return
    on_canvas = np.zeros(tile.shape[:2], np.uint8)
    first, last = (np.round((edge - np.array(position)) / ratio).astype(int) for edge in (low, high))
    on_canvas[first[1]:last[1], first[0]:last[0]] = 255
    inside = cv2.warpAffine(on_canvas, to_part[:2], size, flags=cv2.INTER_NEAREST)
    np.copyto(part, drawn, where=(inside > 0)[..., None])
