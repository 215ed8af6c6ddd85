"""Keep mmdet's pixel coordinates in float32 under autocast.

mmdet casts anchors and RoIs to the dtype of the features, which was designed for float16. bfloat16 has 8 significant
bits, so a coordinate of 1000 px would be rounded to a multiple of 4 px.
"""

import functools

import torch

from vitdet_plugin.compat.patching import Patch

_LOW = (torch.bfloat16, torch.float16)
_WHY = 'rounds pixel coordinates to the dtype of the features, bfloat16 under autocast'
_UPSTREAM = 'mmdet 3.3, onedl-mmdetection 3.5'
_GENERATORS = [Patch(f'mmdet.models.task_modules.prior_generators.{name}', 'grid_priors', why=_WHY, upstream=_UPSTREAM)
               for name in ('AnchorGenerator', 'MlvlPointGenerator')]
_EXTRACTORS = [Patch(f'mmdet.models.roi_heads.roi_extractors.{name}', 'forward', why=_WHY, upstream=_UPSTREAM)
               for name in ('SingleRoIExtractor', 'GenericRoIExtractor')]


def install() -> None:
    """Wrap the prior generators and RoI extractors of mmdet, once."""
    for patch in _GENERATORS:
        patch.install(_priors_in_float32)
    for patch in _EXTRACTORS:
        patch.install(_extract_in_float32)


def _priors_in_float32(grid_priors):
    @functools.wraps(grid_priors)
    def wide(self, featmap_sizes, dtype=torch.float32, *args, **kwargs):
        return grid_priors(self, featmap_sizes, torch.float32 if dtype in _LOW else dtype, *args, **kwargs)

    return wide


def _extract_in_float32(forward):
    @functools.wraps(forward)
    def wide(self, feats, rois, *args, **kwargs):
        dtype = feats[0].dtype
        if dtype not in _LOW:
            return forward(self, feats, rois, *args, **kwargs)
        return forward(self, tuple(f.float() for f in feats), rois, *args, **kwargs).to(dtype)

    return wide
