"""Multi-scale deformable attention in PyTorch: runs on any device and is used where no kernel is compiled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend
from vitdet_plugin.utils.exporting import is_exporting


def ms_deform_attn_pytorch(value: Tensor, spatial_shapes: Tensor | Sequence[Sequence[int]], locations: Tensor,
                           weights: Tensor) -> Tensor:
    """Sample and sum one level at a time, so that no tensor of the samples of all levels exists.

    Arguments as :func:`vitdet_plugin.ops.ms_deform_attn.ms_deform_attn`, of one dtype. Coordinates are float32 for
    float16 and bfloat16, whose 11 or 8 bits cannot represent the positions of a feature map.
    """
    dtype = value.dtype
    if dtype in (torch.float16, torch.bfloat16):
        value, locations, weights = value.float(), locations.float(), weights.float()
    batch, pixels, heads, channels = value.shape
    queries = locations.shape[1]
    sizes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
    areas = [height * width for height, width in sizes]
    if len(areas) != locations.shape[3] or sum(areas) != pixels:
        raise ValueError(f'ms_deform_attn: spatial_shapes has {len(areas)} levels of {sum(areas)} pixels, but '
                         f'locations has {locations.shape[3]} levels and value {pixels} pixels')
    grids = 2 * locations - 1
    if is_exporting():  # ONNX Runtime's GridSample overflows far outside of a map; from 2 on all samples are 0
        grids = grids.clamp(-2, 2)
    grids = grids.permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (N * heads, levels, Q, points, 2)
    factors = weights.permute(0, 2, 3, 1, 4).flatten(0, 1)[:, :, None]  # (N * heads, levels, 1, Q, points)
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split(areas, -1)  # each (N * heads, C, H * W)
    out = value.new_zeros(batch * heads, channels, queries)
    for level, (height, width) in enumerate(sizes):
        if areas[level]:  # grid_sample rejects an empty map
            samples = F.grid_sample(maps[level].unflatten(-1, (height, width)), grids[:, level], mode='bilinear',
                                    padding_mode='zeros', align_corners=False)
            out = out + (samples * factors[:, level]).sum(-1)
    return out.view(batch, heads * channels, queries).transpose(1, 2).contiguous().to(dtype)


BACKEND = Backend('pytorch', ms_deform_attn_pytorch, lambda case: None)
