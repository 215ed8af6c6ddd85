"""Multi-scale deformable attention by Triton kernels, for GPUs; no build step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.ms_deform_attn.reference import ms_deform_attn_pytorch
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.triton_support import next_power_of_2
from vitdet_plugin.ops.tuning import Choice, shape_class

MAX_CHANNELS = 256  #: of a head
_ARGUMENTS = 'Tensor value, Tensor locations, Tensor weights, Tensor levels'


def ms_deform_attn_triton(value: Tensor, spatial_shapes: Tensor | Sequence[Sequence[int]], locations: Tensor,
                          weights: Tensor) -> Tensor:
    """Arguments as :func:`vitdet_plugin.ops.ms_deform_attn.ms_deform_attn`, of one dtype.

    The sizes are read on the GPU, without waiting for it, so their sum is not checked.
    """
    out: Tensor = _operator(value, locations, weights, _levels(spatial_shapes, value.device))
    return out


def _levels(spatial_shapes: Tensor | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return (levels, 3): height, width and first pixel of each level."""
    if isinstance(spatial_shapes, Tensor):
        sizes = spatial_shapes.to(device, torch.int64)
        areas = sizes.prod(1)
        return torch.cat((sizes, (areas.cumsum(0) - areas)[:, None]), 1)
    rows, first = [], 0
    for height, width in spatial_shapes:
        rows.append((height, width, first))
        first += height * width
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _launch(name: str, kernel: Any, tensors: list[Tensor], value: Tensor, weights: Tensor,
            prepare: Tensor | None = None, **constants: Any) -> None:
    """Launch a kernel; ``prepare`` is set to zero before each launch."""
    batch, queries, heads, levels, points = weights.shape
    block_c = next_power_of_2(value.shape[3], 1)
    numbers = (batch * queries, queries, value.shape[1], heads)
    constants = dict(CHANNELS=value.shape[3], BLOCK_C=block_c, LEVELS=levels, POINTS=points, **constants)
    # the product of a block's queries and its head's channels: 4 numbers of 128 threads, and neighbors of that
    blocks = [max(8, min(128, size // block_c)) for size in (512, 1024, 256)]

    def launch(choice: Choice) -> None:
        if prepare is not None:
            prepare.zero_()
        kernel[(-(-numbers[0] // choice.blocks['BLOCK']) * heads,)](*tensors, *numbers, **constants, **choice.options)

    choices = [Choice(dict(BLOCK=size), warps) for size, warps in zip(blocks, (4, 4, 2), strict=True)]
    key = (f'ms_deform_attn {name}', value.dtype, shape_class(numbers[0]), *constants.values())
    tuning.launch_tuned(key, choices, launch, value)


def _forward(value: Tensor, locations: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
    """Shapes as in :func:`vitdet_plugin.ops.ms_deform_attn.ms_deform_attn`, tensors of one dtype, and levels."""
    from vitdet_plugin.ops.ms_deform_attn import triton_kernels
    out = _output(value, locations)
    if not weights.numel() or not value.numel():
        return out.zero_()
    tensors = [value.contiguous(), levels, locations.contiguous(), weights.contiguous(), out]
    _launch('forward', triton_kernels.forward_kernel, tensors, value, weights)
    return out


def _backward(grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor,
              levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of value, locations and weights.

    The gradient of the value is added up by atomic operations: in float32, or under
    ``torch.use_deterministic_algorithms`` in integers, so that their order is irrelevant.
    """
    from vitdet_plugin.ops.ms_deform_attn import triton_kernels
    if not weights.numel() or not value.numel():
        return value.new_zeros(value.shape), locations.new_zeros(locations.shape), weights.new_zeros(weights.shape)
    fixed = triton_support.deterministic()
    grad_value = torch.empty(value.shape, dtype=torch.int64 if fixed else torch.float32, device=value.device)
    grad_locations, grad_weights = locations.new_empty(locations.shape), weights.new_empty(weights.shape)
    # float32 sums need no factor, so any tensor serves
    factor = (triton_support.fixed_point_scale(grad.abs().amax().float() * weights.abs().amax().float()) if fixed
              else grad)
    tensors = [grad.contiguous(), value.contiguous(), levels, locations.contiguous(), weights.contiguous(), grad_value,
               grad_locations, grad_weights, factor]
    _launch('backward', triton_kernels.backward_kernel, tensors, value, weights, grad_value, FIXED=fixed)
    if fixed:
        return (grad_value.double() / factor).to(value.dtype), grad_locations, grad_weights
    return grad_value.to(value.dtype), grad_locations, grad_weights


def _output(value: Tensor, locations: Tensor, *others: Tensor) -> Tensor:
    return value.new_empty((*locations.shape[:2], value.shape[2] * value.shape[3]))


def _cast(value: Tensor, locations: Tensor, weights: Tensor, levels: Tensor) -> list[Tensor]:
    return [*triton_support.to_widest(value, locations, weights), levels]


def _reference(value: Tensor, locations: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
    return ms_deform_attn_pytorch(value, levels[:, :2], locations, weights)


_operator = Differentiable(
    'ms_deform_attn_triton', f'({_ARGUMENTS}) -> Tensor', _forward, _output,
    Registered('ms_deform_attn_triton_backward', f'(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)', _backward,
               lambda grad, *saved: tuple(x.new_empty(x.shape) for x in saved[:3])),
    reference=_reference, saved=(), cast=_cast)


def _why_not(case: Case) -> str | None:
    if case.options.get('channels', 0) > MAX_CHANNELS:
        return f'serves heads of up to {MAX_CHANNELS} channels'
    return triton_support.why_not(case)


BACKEND = Backend('triton', ms_deform_attn_triton, _why_not)
