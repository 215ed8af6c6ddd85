"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, equation 3).

Each query averages bilinear samples of several feature maps at predicted locations, with predicted weights.

=======  ================  ===============================================================================
backend  module            description
=======  ================  ===============================================================================
cpu      ``cpu.py``        compiled kernel; neither samples nor grids are stored; the same for any number of
                           threads
triton   ``triton.py``     kernels for GPUs, compiled at the first call
pytorch  ``reference.py``  ``grid_sample`` of one level at a time on any device; used for exports
=======  ================  ===============================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Operator
from vitdet_plugin.ops.ms_deform_attn import cpu, reference, triton

OPERATOR = Operator('ms_deform_attn', [cpu.BACKEND, triton.BACKEND, reference.BACKEND])


def ms_deform_attn(value: Tensor, spatial_shapes: Tensor | Iterable[Sequence[int]], locations: Tensor, weights: Tensor,
                   *, backend: str | None = None) -> Tensor:
    """Sum bilinear samples of all levels with the attention weights.

    Samples outside a map are zero. A location of x = 0 is the left edge of the first pixel of a row, x = 1 the right
    edge of the last one.

    Args:
        value: (N, S, heads, C), the pixels of all levels, row by row; float32, float64, float16 or bfloat16.
        spatial_shapes: (levels, 2), height and width of each level in pixels; S is the sum of their products. A
            level may be empty.
        locations: (N, Q, heads, levels, points, 2), x and y in fractions of the map.
        weights: (N, Q, heads, levels, points).
        backend: backend to use; None or 'auto' for the first that can serve the tensors.

    Returns:
        (N, Q, heads * C) with the dtype of ``value``; under autocast float32 at least. Tensors of different dtypes are
        converted to the widest of them.

    Raises:
        ValueError: the shapes do not match.
        BackendError: ``backend`` is unknown or cannot serve this call.
    """
    if not torch.jit.is_tracing():  # sizes are tensors, which a trace would turn into constants
        _check(value, locations, weights)
    tensors = value, locations, weights
    widest, result = reduce(torch.promote_types, (each.dtype for each in tensors)), value.dtype
    if torch.is_autocast_enabled(value.device.type):
        widest = result = torch.promote_types(widest, torch.float32)
    value, locations, weights = (each.to(widest) for each in tensors)
    if not isinstance(spatial_shapes, Tensor):
        spatial_shapes = [(int(height), int(width)) for height, width in spatial_shapes]
    chosen = OPERATOR.choose(case_of(value, channels=value.shape[3]), backend)
    out: Tensor = chosen.run(value, spatial_shapes, locations, weights)
    return out.to(result)


def _check(value: Tensor, locations: Tensor, weights: Tensor) -> None:
    for name, tensor, layout in (('value', value, '(N, S, heads, C)'),
                                 ('locations', locations, '(N, Q, heads, levels, points, 2)'),
                                 ('weights', weights, '(N, Q, heads, levels, points)')):
        if tensor.ndim != layout.count(',') + 1:
            raise ValueError(f'ms_deform_attn: {name} has shape {tuple(tensor.shape)}; expected {layout}')
    if tuple(locations.shape) != (*weights.shape, 2):
        raise ValueError(f'ms_deform_attn: locations has shape {tuple(locations.shape)}, but weights of shape '
                         f'{tuple(weights.shape)} require {(*weights.shape, 2)}')
    if (value.shape[0], value.shape[2]) != (weights.shape[0], weights.shape[2]):
        raise ValueError(f'ms_deform_attn: value has shape {tuple(value.shape)} and weights {tuple(weights.shape)}; '
                         'the first (batch) and third dimension (heads) must be the same')
