"""Multi-scale deformable attention by the compiled CPU kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitdet_plugin.ops.derivatives import derivative, register_derivative
from vitdet_plugin.ops.dispatch import Backend
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.ms_deform_attn.reference import ms_deform_attn_pytorch
from vitdet_plugin.ops.native import STATUS, why_not


def ms_deform_attn_cpu(value: Tensor, spatial_shapes: Tensor | Sequence[Sequence[int]], locations: Tensor,
                       weights: Tensor) -> Tensor:
    """Compiled kernel. Arguments as :func:`vitdet_plugin.ops.ms_deform_attn.ms_deform_attn`, of one dtype."""
    sizes = torch.as_tensor(spatial_shapes, dtype=torch.int64)
    out: Tensor = torch.ops.vitdet_plugin.ms_deform_attn(value, sizes, locations, weights)
    return out


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    name = f'{NAMESPACE}::ms_deform_attn'

    def like_output(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return value.new_empty(locations.shape[0], locations.shape[1], value.shape[2] * value.shape[3])

    def like_inputs(grad: Tensor, value: Tensor, spatial_shapes: Tensor, locations: Tensor,
                    weights: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.new_empty(each.shape) for each in (value, locations, weights))

    def backward(grad: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        of_value, of_locations, of_weights = torch.ops.vitdet_plugin.ms_deform_attn_backward(grad, *inputs)
        return of_value, None, of_locations, of_weights

    torch.library.register_fake(name, like_output)
    torch.library.register_fake(f'{name}_backward', like_inputs)
    register_derivative(name, *derivative(backward, ms_deform_attn_pytorch, tensors=4))


if STATUS['cpu'] is None:
    _register()

BACKEND = Backend('cpu', ms_deform_attn_cpu, why_not)
