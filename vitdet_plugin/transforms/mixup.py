"""MixUp of two augmented pictures (arXiv 1710.09412), for detectors: both pictures' boxes stay."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy import random

from vitdet_plugin.transforms.random_affine import put_annotations


@TRANSFORMS.register_module()
class MosaicMixUp(BaseTransform):
    """Blends the picture with a second of the data set below, boxes of both are kept.

    Around a data set that makes mosaics (mmdet's ``MultiImageMixDataset`` twice), two mosaics are mixed, as in YOLOv5;
    mmdet's ``MixUp`` is YOLOX's, which mixes a mosaic with a single picture. Both pictures must be of one size.

    Args:
        prob: how often.
        beta: the share is drawn from Beta(beta, beta): 32 keeps it near one half.
    """

    def __init__(self, prob: float = 0.1, beta: float = 32.0) -> None:
        self.prob, self.beta = prob, beta

    def get_indexes(self, dataset) -> list[int]:
        """One more picture, or none: nothing is loaded in vain."""
        return [random.randint(0, len(dataset))] if random.uniform() < self.prob else []

    def transform(self, results: dict) -> dict:
        """See the class."""
        if not results.get('mix_results'):
            return results
        other, = results['mix_results']
        share = random.beta(self.beta, self.beta)
        results['img'] = cv2.addWeighted(results['img'], share, other['img'], 1 - share, 0)
        boxes = np.concatenate([each['gt_bboxes'].tensor.numpy() for each in (results, other)])
        labels, ignored = (np.concatenate([results[key], other[key]]) for key in ('gt_bboxes_labels',
                                                                                 'gt_ignore_flags'))
        put_annotations(results, boxes, labels, ignored)
        return results
