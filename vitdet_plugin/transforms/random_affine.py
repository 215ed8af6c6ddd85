"""Random affine transformation about the centre, and which boxes survive it (YOLOv5's augmentation)."""

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


def draw_matrix(in_size: tuple[int, int], out_size: tuple[int, int], degrees: float, translate: float, scale: float,
                shear: float) -> tuple[np.ndarray, float]:
    """A 3 x 3 matrix from input to output pixels, and its scale.

    The input's centre moves to the origin, is rotated by up to ``degrees``, scaled by 1 - scale ... 1 + scale, sheared
    by up to ``shear`` degrees along each axis, and put down at the output's centre, off by up to ``translate`` of its
    size. All draws are uniform. Sizes are (width, height).
    """
    centre = np.array([[1, 0, -in_size[0] / 2], [0, 1, -in_size[1] / 2], [0, 0, 1]])
    angle = math.radians(random.uniform(-degrees, degrees))
    factor = random.uniform(1 - scale, 1 + scale)
    cosine, sine = factor * math.cos(angle), factor * math.sin(angle)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    skew_x, skew_y = (math.tan(math.radians(random.uniform(-shear, shear))) for _ in range(2))
    skew = np.array([[1, skew_x, 0], [skew_y, 1, 0], [0, 0, 1]])
    shift = np.array([[1, 0, random.uniform(0.5 - translate, 0.5 + translate) * out_size[0]],
                      [0, 1, random.uniform(0.5 - translate, 0.5 + translate) * out_size[1]], [0, 0, 1]])
    return shift @ skew @ turn @ centre, factor


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray, scale: float, out_size: tuple[int, int], min_side: float = 2,
                    max_aspect: float = 100, min_area: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Upright boxes around the transformed ones, clipped to the output, and which of them are still worth learning.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 of the input. matrix: 3 x 3. scale: the matrix's, for comparing areas.
        min_side: pixels that width and height must exceed. max_aspect: the longer side over the shorter stays below it.
        min_area: share of the (scaled) area that must be left.

    Returns:
        (n, 4) boxes and (n,) flags.
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
    """Write boxes (n, 4), labels (n,) and ignore flags (n,) as mmdet's transforms pass them on."""
    results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(boxes.astype(np.float32)))
    results['gt_bboxes_labels'], results['gt_ignore_flags'] = labels, ignored


@TRANSFORMS.register_module()
class CentredRandomAffine(BaseTransform):
    """Rotation, scale, shear and translation about the centre, with a filter for boxes of which little is left.

    mmdet's ``RandomAffine`` turns about the upper left corner and keeps every box; this is YOLOv5's.

    Required keys: img, gt_bboxes, gt_bboxes_labels, gt_ignore_flags. Changed: these and img_shape.

    Args:
        degrees, translate, scale, shear: see :func:`draw_matrix`.
        border: (height, width) added on each side to the input's size for the output's: minus half the tile's size
            behind mmdet's ``Mosaic``.
        min_side, max_aspect, min_area: see :func:`transform_boxes`.
        fill: grey value outside the picture.
    """

    def __init__(self, degrees: float = 0.0, translate: float = 0.1, scale: float = 0.5, shear: float = 0.0,
                 border: tuple[int, int] = (0, 0), min_side: float = 2, max_aspect: float = 100, min_area: float = 0.1,
                 fill: int = 114) -> None:
        self.geometry = dict(degrees=degrees, translate=translate, scale=scale, shear=shear)
        self.filter = dict(min_side=min_side, max_aspect=max_aspect, min_area=min_area)
        self.border, self.fill = border, fill

    @cache_randomness
    def _draw(self, in_size: tuple[int, int], out_size: tuple[int, int]) -> tuple[np.ndarray, float]:
        return draw_matrix(in_size, out_size, **self.geometry)

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = results['img'].shape[:2]
        out_size = width + 2 * self.border[1], height + 2 * self.border[0]
        matrix, scale = self._draw((width, height), out_size)
        results['img'] = cv2.warpAffine(results['img'], matrix[:2], out_size, borderValue=(self.fill,) * 3)
        results['img_shape'] = results['img'].shape[:2]
        boxes, keep = transform_boxes(results['gt_bboxes'].tensor.numpy().astype(float), matrix, scale, out_size,
                                      **self.filter)
        put_annotations(results, boxes[keep], results['gt_bboxes_labels'][keep], results['gt_ignore_flags'][keep])
        return results
