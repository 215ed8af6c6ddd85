"""Loading of images at the size used for training, with a cache in memory."""

from __future__ import annotations

from math import inf

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS

from vitdet_plugin.utils.arguments import check_range, check_whole


@TRANSFORMS.register_module()
class LoadResizedImage(LoadImageFromFile):
    """Load an image, resize its longer side to ``img_size`` and cache it, so that later epochs do not decode it again.

    Use it after ``LoadAnnotations``: boxes that are loaded already are scaled with the image.

    Required key: img_path. Optional: gt_bboxes. Added: img (H, W, 3), img_shape and ori_shape (height, width),
    scale_factor (x, y).

    Args:
        img_size: Longer side in pixels.
        cache_mb: Memory for images in each worker process, in MB; images beyond it are read again. 0 disables the
            cache.
        **kwargs: Arguments of mmcv's ``LoadImageFromFile``.
    """

    def __init__(self, img_size: int = 640, cache_mb: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        check_whole(1, img_size=img_size)
        check_range(0, inf, cache_mb=cache_mb)
        self.img_size = img_size
        self._free_bytes = cache_mb * 1024 ** 2
        self._cache: dict[str, tuple[np.ndarray, tuple[int, int]]] = {}

    def transform(self, results: dict) -> dict | None:
        """Apply the transform; see the class."""
        path = results['img_path']
        if path in self._cache:
            image, original = self._cache[path]
        else:
            loaded = super().transform(results)
            if loaded is None:
                return None
            image, original = loaded['img'], loaded['ori_shape']
            ratio = self.img_size / max(original)
            if ratio != 1:
                size = (max(round(original[1] * ratio), 1), max(round(original[0] * ratio), 1))
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
            if image.nbytes <= self._free_bytes:
                self._free_bytes -= image.nbytes
                self._cache[path] = image, original
        results['img'], results['ori_shape'], results['img_shape'] = image.copy(), original, image.shape[:2]
        results['scale_factor'] = image.shape[1] / original[1], image.shape[0] / original[0]
        if 'gt_bboxes' in results:
            results['gt_bboxes'].rescale_(results['scale_factor'])
        return results
