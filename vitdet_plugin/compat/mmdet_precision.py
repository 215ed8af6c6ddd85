"""Keep mmdet's pixel coordinates in float32 under autocast.

mmdet casts anchors and RoIs to the dtype of the features. That was meant for float16; bfloat16 has 8 significant bits,
so a coordinate of 1000 px would be rounded to a multiple of 4 px.
"""

import functools

import torch

_LOW = (torch.bfloat16, torch.float16)


def install() -> None:
    """Wrap the prior generators and RoI extractors of mmdet, once."""
    from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
    from mmdet.models.task_modules.prior_generators import AnchorGenerator, MlvlPointGenerator

    for generator in (AnchorGenerator, MlvlPointGenerator):
        _wrap(generator, 'grid_priors', _priors_in_float32)
    for extractor in (SingleRoIExtractor, GenericRoIExtractor):
        _wrap(extractor, 'forward', _extract_in_float32)


def _wrap(cls: type, name: str, wrapper) -> None:
    method = cls.__dict__[name]
    if not hasattr(method, '__wrapped__'):
        setattr(cls, name, wrapper(method))


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
