"""Keep mmdet's pixel coordinates and scores in float32 under autocast.

mmdet casts anchors and RoIs to the dtype of the features, which was designed for float16. bfloat16 has 8 significant
bits, so a coordinate of 1000 px would be rounded to a multiple of 4 px, and scores above 0.5 to multiples of 1/256,
so that many detections would have the same score.
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
_CODERS = [Patch('mmdet.models.task_modules.coders.DeltaXYWHBBoxCoder', 'decode', why=_WHY, upstream=_UPSTREAM)]
_HEADS = [Patch(f'mmdet.models.{name}', 'predict_by_feat', upstream=_UPSTREAM,
                why='computes scores in the dtype of the features, in which many are equal')
          for name in ('dense_heads.base_dense_head.BaseDenseHead', 'roi_heads.bbox_heads.BBoxHead')]


def install() -> None:
    """Wrap the prior generators, RoI extractors, box coder and heads of mmdet, once."""
    for patch in _CODERS:
        patch.install(_with_wide_arguments)
    for patch in _HEADS:
        patch.install(_with_wide_arguments)
    for patch in _GENERATORS:
        patch.install(_priors_in_float32)
    for patch in _EXTRACTORS:
        patch.install(_extract_in_float32)


def _with_wide_arguments(method):
    @functools.wraps(method)
    def wide(self, *args, **kwargs):
        return method(self, *map(_widened, args), **{key: _widened(value) for key, value in kwargs.items()})

    return wide


def _widened(value):
    """Convert a tensor of low precision, or those of a list or tuple, to float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in _LOW else value
    if type(value) in (list, tuple):
        return type(value)(map(_widened, value))
    return value


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
