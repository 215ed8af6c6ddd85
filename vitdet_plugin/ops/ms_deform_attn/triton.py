"""Multi-scale deformable attention by Triton kernels, for GPUs; no build step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.triton_support import next_power_of_2
from vitdet_plugin.ops.tuning import Choice, shape_class

MAX_CHANNELS = 256  #: of a head
_ARGUMENTS = 'Tensor value, Tensor spatial_shapes, Tensor locations, Tensor weights'


def ms_deform_attn_triton(value: Tensor, spatial_shapes: Tensor | Sequence[Sequence[int]], locations: Tensor,
                          weights: Tensor) -> Tensor:
    """Arguments as :func:`vitdet_plugin.ops.ms_deform_attn.ms_deform_attn`, of one dtype.

    The sizes are read on the GPU, without waiting for it, so their sum is not checked.
    """
    sizes = torch.as_tensor(spatial_shapes, dtype=torch.int64, device=value.device)
    out: Tensor = _operator(value, sizes, locations, weights)
    return out


def _levels(spatial_shapes: Tensor) -> Tensor:
    """Return (levels, 3): height, width and first pixel of each level."""
    areas = spatial_shapes.prod(1)
    return torch.cat((spatial_shapes, (areas.cumsum(0) - areas)[:, None]), 1)


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


@torch.library.custom_op(f'{NAMESPACE}::ms_deform_attn_triton', mutates_args=(), schema=f'({_ARGUMENTS}) -> Tensor')
def _operator(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Shapes as in :func:`vitdet_plugin.ops.ms_deform_attn.ms_deform_attn`, tensors of one dtype."""
    from vitdet_plugin.ops.ms_deform_attn import triton_kernels
    out = _output(value, spatial_shapes, locations, weights)
    if not weights.numel() or not value.numel():
        return out.zero_()
    tensors = [value.contiguous(), _levels(spatial_shapes), locations.contiguous(), weights.contiguous(), out]
    _launch('forward', triton_kernels.forward_kernel, tensors, value, weights)
    return out


@torch.library.custom_op(f'{NAMESPACE}::ms_deform_attn_triton_backward', mutates_args=(),
                         schema=f'(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)')
def _backward_operator(grad: Tensor, value: Tensor, spatial_shapes: Tensor, locations: Tensor,
                       weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    bound = grad.abs().amax().float() * weights.abs().amax().float() if fixed else grad.new_ones((),
                                                                                               dtype=torch.float32)
    factor = triton_support.fixed_point_scale(bound)
    tensors = [grad.contiguous(), value.contiguous(), _levels(spatial_shapes), locations.contiguous(),
               weights.contiguous(), grad_value, grad_locations, grad_weights, factor]
    _launch('backward', triton_kernels.backward_kernel, tensors, value, weights, grad_value, FIXED=fixed)
    if fixed:
        return (grad_value.double() / factor).to(value.dtype), grad_locations, grad_weights
    return grad_value.to(value.dtype), grad_locations, grad_weights


def _output(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty((*locations.shape[:2], value.shape[2] * value.shape[3]))


def _register() -> None:
    """Register shapes for tracing, the derivative and autocast."""
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_value, of_locations, of_weights = _backward_operator(grad, *ctx.saved_tensors)
        return of_value, None, of_locations, of_weights

    def cast(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        value, locations, weights = triton_support.to_widest(value, locations, weights)
        return value, spatial_shapes, locations, weights

    _operator.register_fake(_output)
    _backward_operator.register_fake(lambda grad, value, spatial_shapes, locations, weights: tuple(
        x.new_empty(x.shape) for x in (value, locations, weights)))
    _operator.register_autograd(backward, setup_context=setup_context)
    triton_support.register_autocast('ms_deform_attn_triton', cast)


_register()


def _why_not(case: Case) -> str | None:
    if case.options.get('channels', 0) > MAX_CHANNELS:
        return f'serves heads of up to {MAX_CHANNELS} channels'
    return triton_support.why_not(case)


BACKEND = Backend('triton', ms_deform_attn_triton, _why_not)
