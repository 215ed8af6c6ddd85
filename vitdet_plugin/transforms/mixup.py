"""MixUp of two augmented images (arXiv 1710.09412) for detectors: the boxes of both images are kept."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy import random

from vitdet_plugin.transforms.random_affine import put_annotations
from vitdet_plugin.utils.arguments import check_positive, check_range


@TRANSFORMS.register_module()
class MosaicMixUp(BaseTransform):
    """Blend the image with a second one from the wrapped data set and keep the boxes of both.

    Around a data set that creates mosaics (two nested ``MultiImageMixDataset`` of mmdet), two mosaics are mixed, as in
    YOLOv5; mmdet's ``MixUp`` follows YOLOX and mixes a mosaic with a single image. Both images must have the same size.

    Required keys: img (H, W, 3) uint8, gt_bboxes, gt_bboxes_labels, gt_ignore_flags, mix_results (none or one with the
    same keys). Changed: the first four.

    Args:
        prob: Probability of mixing.
        beta: The weight of the first image is drawn from Beta(beta, beta); with 32 it is close to one half.
    """

    def __init__(self, prob: float = 0.1, beta: float = 32.0) -> None:
        check_range(0, 1, prob=prob)
        check_positive(beta=beta)
        self.prob, self.beta = prob, beta

    def get_indexes(self, dataset) -> list[int]:
        """Return the index of one more image, or no index where images are not mixed, so that none is loaded."""
        return [random.randint(0, len(dataset))] if random.uniform() < self.prob else []

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        if not results.get('mix_results'):
            return results
        other, = results['mix_results']
        weight = random.beta(self.beta, self.beta)
        results['img'] = cv2.addWeighted(results['img'], weight, other['img'], 1 - weight, 0)
        boxes = np.concatenate([each['gt_bboxes'].tensor.numpy() for each in (results, other)])
        labels, ignored = (np.concatenate([results[key], other[key]]) for key in ('gt_bboxes_labels',
                                                                                 'gt_ignore_flags'))
        put_annotations(results, boxes, labels, ignored)
        return results
