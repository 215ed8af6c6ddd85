"""Random hue, saturation and brightness by multiplication."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS
from numpy import random

from vitdet_plugin.utils.arguments import check_range


@TRANSFORMS.register_module()
class MultiplicativeHSV(BaseTransform):
    """Multiply hue, saturation and value by random factors from [1 - gain, 1 + gain], with look-up tables.

    mmdet's ``YOLOXHSVRandomAug`` adds instead, so black pixels become brighter and gray ones get a color.

    Required and changed key: img, (H, W, 3) uint8, BGR.

    Args:
        hue: Gain of the hue.
        saturation: Gain of the saturation.
        value: Gain of the value.
    """

    def __init__(self, hue: float = 0.015, saturation: float = 0.7, value: float = 0.4) -> None:
        check_range(0, 1, hue=hue, saturation=saturation, value=value)
        self.gains = np.array([hue, saturation, value])

    @cache_randomness
    def _draw(self) -> np.ndarray:
        return 1 + random.uniform(-1, 1, 3) * self.gains

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        factors = self._draw()
        levels = np.arange(256)[:, None] * factors
        levels[:, 0] %= 180  # OpenCV's 8-bit hue is in units of 2 degrees
        table = levels.clip(0, 255).astype(np.uint8)[None]  # (1, 256, 3): one table for each channel
        image = cv2.cvtColor(results['img'], cv2.COLOR_BGR2HSV)
        results['img'] = cv2.cvtColor(cv2.LUT(image, table), cv2.COLOR_HSV2BGR)
        return results
