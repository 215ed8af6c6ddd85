"""Images that are much longer than wide keep at least one pixel when mmcv resizes them."""

import functools

from vitdet_plugin.compat.patching import Patch

_WHY = 'a side of less than half a pixel becomes 0, which OpenCV refuses'
_SIZES = [Patch(owner, '_scale_size', upstream='mmcv 2.1, 2.2', why=_WHY) for owner in (
    'mmcv.image.geometric', 'mmcv.transforms.processing', 'mmdet.datasets.transforms.transforms')]
_FIXED = Patch('mmdet.datasets.transforms.transforms', '_fixed_scale_size', upstream='mmdet 3.3, onedl-mmdetection 3.5',
               why=_WHY)


def install() -> None:
    """Replace how mmcv and mmdet compute the size of a resized image, once."""
    for patch in (*_SIZES, _FIXED):
        patch.install(_at_least_one)


def _at_least_one(scale_size):
    @functools.wraps(scale_size)
    def scaled(size, scale):
        width, height = scale_size(size, scale)
        return max(width, 1), max(height, 1)

    return scaled
