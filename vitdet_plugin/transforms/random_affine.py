"""Random affine transformation about the center with a filter for boxes, as in YOLOv5."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import TRANSFORMS
from numpy import random

from vitdet_plugin.utils.arguments import check_lengths, check_range


def draw_matrix(in_size: tuple[int, int], out_size: tuple[int, int], degrees: float, translate: float, scale: float,
                shear: float) -> tuple[np.ndarray, float]:
    """Draw a random affine transformation.

    The image is rotated, scaled and sheared about its center, and the center is moved to that of the output plus a
    random translation. All draws are uniform.

    Args:
        in_size: (width, height) of the input in pixels.
        out_size: (width, height) of the output in pixels.
        degrees: Largest rotation in degrees.
        translate: Largest translation along each axis, as a fraction of ``out_size``.
        scale: The scale is drawn from [1 - scale, 1 + scale].
        shear: Largest shear along each axis in degrees.

    Returns:
        (3, 3) matrix from input to output pixels, and its scale.
    """
    center = np.array([[1, 0, -in_size[0] / 2], [0, 1, -in_size[1] / 2], [0, 0, 1]])
    angle = math.radians(random.uniform(-degrees, degrees))
    factor = random.uniform(1 - scale, 1 + scale)
    cosine, sine = factor * math.cos(angle), factor * math.sin(angle)
    rotation = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    skew_x, skew_y = (math.tan(math.radians(random.uniform(-shear, shear))) for _ in range(2))
    skew = np.array([[1, skew_x, 0], [skew_y, 1, 0], [0, 0, 1]])
    shift = np.array([[1, 0, random.uniform(0.5 - translate, 0.5 + translate) * out_size[0]],
                      [0, 1, random.uniform(0.5 - translate, 0.5 + translate) * out_size[1]], [0, 0, 1]])
    return shift @ skew @ rotation @ center, factor


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray, scale: float, out_size: tuple[int, int], min_side: float = 2,
                    max_aspect: float = 100, min_area: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Transform boxes, clip them to the output, and determine which of them to keep.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels of the input.
        matrix: (3, 3) from input to output pixels.
        scale: Scale of the matrix, to compare areas.
        out_size: (width, height) of the output in pixels.
        min_side: Width and height of a box to keep exceed this number of pixels.
        max_aspect: The ratio of its longer to its shorter side is below this.
        min_area: Its area exceeds this fraction of the (scaled) area before.

    Returns:
        (N, 4) axis-aligned boxes in pixels of the output, and (N,) flags.
    """
    corners = np.ones((len(boxes), 4, 3))
    corners[..., :2] = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
    corners = corners @ matrix[:2].T
    new = np.concatenate((corners.min(1), corners.max(1)), 1)
    new[:, 0::2] = new[:, 0::2].clip(0, out_size[0])
    new[:, 1::2] = new[:, 1::2].clip(0, out_size[1])
    before = (boxes[:, 2:] - boxes[:, :2]) * scale
    width, height = (new[:, 2:] - new[:, :2]).T
    eps = 1e-16
    aspect = np.maximum(width / (height + eps), height / (width + eps))
    area = width * height / (before.prod(1) + eps)
    keep = (width > min_side) & (height > min_side) & (aspect < max_aspect) & (area > min_area)
    return new, keep


def put_annotations(results: dict, boxes: np.ndarray, labels: np.ndarray, ignored: np.ndarray) -> None:
    """Write boxes (N, 4), labels (N,) and ignore flags (N,) to ``results`` in the types that mmdet's transforms use."""
    results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(boxes.astype(np.float32)))
    results['gt_bboxes_labels'], results['gt_ignore_flags'] = labels, ignored


def check_options(fill: float, degrees: float, translate: float, scale: float, shear: float, min_side: float,
                  max_aspect: float, min_area: float) -> None:
    """Raise ``UserError`` if a gray value or an argument of :func:`draw_matrix` or :func:`transform_boxes` is wrong."""
    check_range(0, 1, translate=translate, scale=scale, min_area=min_area)
    check_range(0, 180, degrees=degrees)
    check_range(0, 90, shear=shear)
    check_range(0, math.inf, min_side=min_side)
    check_range(1, math.inf, max_aspect=max_aspect)
    check_range(0, 255, fill=fill)


@TRANSFORMS.register_module(name=['CenteredRandomAffine', 'CentredRandomAffine'])  # the second is the former name
class CenteredRandomAffine(BaseTransform):
    """Rotate, scale, shear and translate about the center, and remove boxes whose visible part is small.

    As in YOLOv5. mmdet's ``RandomAffine`` rotates about the upper left corner and keeps every box.

    Required keys: img (H, W, 3) uint8, gt_bboxes, gt_bboxes_labels, gt_ignore_flags. Changed: these and img_shape.

    Args:
        degrees: See :func:`draw_matrix`.
        translate: Likewise.
        scale: Likewise.
        shear: Likewise.
        border: (height, width) in pixels to add on each side of the input for the size of the output; after mmdet's
            ``Mosaic`` it is minus half the size of a tile.
        min_side: See :func:`transform_boxes`.
        max_aspect: Likewise.
        min_area: Likewise.
        fill: Gray value outside the image.
    """

    def __init__(self, degrees: float = 0.0, translate: float = 0.1, scale: float = 0.5, shear: float = 0.0,
                 border: tuple[int, int] = (0, 0), min_side: float = 2, max_aspect: float = 100, min_area: float = 0.1,
                 fill: int = 114) -> None:
        self.geometry = dict(degrees=degrees, translate=translate, scale=scale, shear=shear)
        self.filter = dict(min_side=min_side, max_aspect=max_aspect, min_area=min_area)
        check_options(fill, **self.geometry, **self.filter)
        check_lengths(2, border=border)
        self.border, self.fill = border, fill

    @cache_randomness
    def _draw(self, in_size: tuple[int, int], out_size: tuple[int, int]) -> tuple[np.ndarray, float]:
        return draw_matrix(in_size, out_size, **self.geometry)

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        height, width = results['img'].shape[:2]
        out_size = width + 2 * self.border[1], height + 2 * self.border[0]
        matrix, scale = self._draw((width, height), out_size)
        results['img'] = cv2.warpAffine(results['img'], matrix[:2], out_size, borderValue=(self.fill,) * 3)
        results['img_shape'] = results['img'].shape[:2]
        boxes, keep = transform_boxes(results['gt_bboxes'].tensor.numpy().astype(float), matrix, scale, out_size,
                                      **self.filter)
        put_annotations(results, boxes[keep], results['gt_bboxes_labels'][keep], results['gt_ignore_flags'][keep])
        return results
