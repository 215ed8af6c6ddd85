"""Loading pictures at the size that training uses, and keeping them in memory."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadResizedImage(LoadImageFromFile):
    """Loads a picture, makes its longer side ``img_size`` pixels, and remembers it: later epochs decode nothing.

    Place it after ``LoadAnnotations``: boxes that are loaded already are scaled along.

    Required key: img_path. Optional: gt_bboxes. Added: img, img_shape and ori_shape (h, w), scale_factor (x, y).

    Args:
        img_size: longer side in pixels.
        cache_mb: memory for pictures, in each worker process; those that do not fit are read again. 0: none.
        kwargs: see mmcv's ``LoadImageFromFile``.
    """

    def __init__(self, img_size: int = 640, cache_mb: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.img_size = img_size
        self._room = cache_mb * 1024 ** 2
        self._cache: dict[str, tuple[np.ndarray, tuple[int, int]]] = {}

    def transform(self, results: dict) -> dict | None:
        """See the class."""
        path = results['img_path']
        if path in self._cache:
            picture, original = self._cache[path]
        else:
            loaded = super().transform(results)
            if loaded is None:
                return None
            picture, original = loaded['img'], loaded['ori_shape']
            ratio = self.img_size / max(original)
            if ratio != 1:
                size = (max(round(original[1] * ratio), 1), max(round(original[0] * ratio), 1))
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
            if picture.nbytes <= self._room:
                self._room -= picture.nbytes
                self._cache[path] = picture, original
        results['img'], results['ori_shape'], results['img_shape'] = picture.copy(), original, picture.shape[:2]
        results['scale_factor'] = picture.shape[1] / original[1], picture.shape[0] / original[0]
        if 'gt_bboxes' in results:
            results['gt_bboxes'].rescale_(results['scale_factor'])
        return results
