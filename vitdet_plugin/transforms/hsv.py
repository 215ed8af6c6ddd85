"""Random hue, saturation and brightness by multiplication."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS
from numpy import random


@TRANSFORMS.register_module()
class MultiplicativeHSV(BaseTransform):
    """Multiplies hue, saturation and value by numbers from 1 - gain ... 1 + gain, through look-up tables.

    mmdet's ``YOLOXHSVRandomAug`` adds instead, so that it lifts blacks and colours greys.

    Required and changed key: img, (h, w, 3) uint8, BGR.

    Args:
        hue, saturation, value: gains.
    """

    def __init__(self, hue: float = 0.015, saturation: float = 0.7, value: float = 0.4) -> None:
        self.gains = np.array([hue, saturation, value])

    @cache_randomness
    def _draw(self) -> np.ndarray:
        return 1 + random.uniform(-1, 1, 3) * self.gains

    def transform(self, results: dict) -> dict:
        """See the class."""
        factors = self._draw()
        levels = np.arange(256)[:, None] * factors
        levels[:, 0] %= 180  # cv2's hue of 8 bits counts 2 degrees
        table = levels.clip(0, 255).astype(np.uint8)[None]  # (1, 256, 3): a table a channel
        picture = cv2.cvtColor(results['img'], cv2.COLOR_BGR2HSV)
        results['img'] = cv2.cvtColor(cv2.LUT(picture, table), cv2.COLOR_HSV2BGR)
        return results
