"""DCNv3 by Triton kernels, for GPUs; no build step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ops_dcnv3.geometry import Geometry
from ops_dcnv3.native import geometry_of, operator_arguments
from ops_dcnv3.reference import dcnv3_pytorch
from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.triton_support import next_power_of_2
from vitdet_plugin.ops.tuning import Choice, shape_class

MAX_CHANNELS = 256  #: of a group
_ARGUMENTS = ('Tensor input, Tensor offset, Tensor mask, int[] kernel, int[] stride, int[] pad, int[] dilation, '
              'int group, int group_channels, float offset_scale, bool remove_center')


def run(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """Call the operator; arguments as :func:`ops_dcnv3.dcnv3`, already checked."""
    out: Tensor = _operator(*triton_support.to_widest(input, offset, mask), *operator_arguments(geometry))
    return out


def _arguments(input: Tensor, mask: Tensor, geometry: Geometry) -> tuple[tuple[Any, ...], dict[str, int]]:
    """Return the numbers and constants that both kernels take."""
    batch, rows, columns, _ = mask.shape
    first_x, first_y = geometry.tap_origin(0, 0)
    cells = geometry.kernel_h * geometry.kernel_w
    numbers = (batch * rows * columns, *input.shape[1:3], rows, columns, geometry.group, geometry.stride_h,
               geometry.stride_w, first_x, first_y, geometry.offset_scale)
    return numbers, dict(CHANNELS=geometry.group_channels, BLOCK_C=next_power_of_2(geometry.group_channels, 1),
                         TAPS=geometry.num_taps, KERNEL_H=geometry.kernel_h, DILATION_H=geometry.dilation_h,
                         DILATION_W=geometry.dilation_w, MIDDLE=cells // 2 if geometry.remove_center else cells)


def _launch(name: str, kernel: Any, tensors: list[Tensor], numbers: tuple[Any, ...], constants: dict[str, Any],
            prepare: Tensor | None = None) -> None:
    """Launch a kernel; ``prepare`` is set to zero before each launch."""
    # the product of a block's pixels and its group's channels: 8 numbers of 128 threads, and neighbors of that
    pixels = [max(16, min(128, size // constants['BLOCK_C'])) for size in (1024, 2048, 1024)]

    def launch(choice: Choice) -> None:
        if prepare is not None:
            prepare.zero_()
        grid = (-(-numbers[0] // choice.blocks['BLOCK']) * numbers[5],)
        kernel[grid](*tensors, *numbers, **constants, **choice.options)

    choices = [Choice(dict(BLOCK=size), warps) for size, warps in zip(pixels, (4, 4, 2), strict=True)]
    key = (f'dcnv3 {name}', tensors[0].dtype, shape_class(numbers[0]), *constants.values())
    tuning.launch_tuned(key, choices, launch, tensors[0])


def _forward(input: Tensor, offset: Tensor, mask: Tensor, *arguments: Any) -> Tensor:
    """Shapes as in :func:`ops_dcnv3.dcnv3`, tensors of one dtype."""
    from ops_dcnv3 import triton_kernels
    out = _output(input, offset, mask)
    if out.numel():
        numbers, constants = _arguments(input, mask, geometry_of(*arguments))
        tensors = [input.contiguous(), offset.contiguous(), mask.contiguous(), out]
        _launch('forward', triton_kernels.forward_kernel, tensors, numbers, constants)
    return out


def _backward(grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor,
              *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, offset and mask.

    The input's gradient is added up by atomic operations: in float32, or under
    ``torch.use_deterministic_algorithms`` in integers, so that their order is irrelevant.
    """
    from ops_dcnv3 import triton_kernels
    if not grad.numel():
        return input.new_zeros(input.shape), offset.new_zeros(offset.shape), mask.new_zeros(mask.shape)
    fixed = triton_support.deterministic()
    grad_input = torch.empty(input.shape, dtype=torch.int64 if fixed else torch.float32, device=input.device)
    grad_offset, grad_mask = offset.new_empty(offset.shape), mask.new_empty(mask.shape)
    # float32 sums need no factor, so any tensor serves
    factor = triton_support.fixed_point_scale(grad.abs().amax().float() * mask.abs().amax().float()) if fixed else grad
    numbers, constants = _arguments(input, mask, geometry_of(*arguments))
    tensors = [grad.contiguous(), input.contiguous(), offset.contiguous(), mask.contiguous(), grad_input, grad_offset,
               grad_mask, factor]
    _launch('backward', triton_kernels.backward_kernel, tensors, numbers, dict(constants, FIXED=fixed), grad_input)
    if fixed:
        return (grad_input.double() / factor).to(input.dtype), grad_offset, grad_mask
    return grad_input.to(input.dtype), grad_offset, grad_mask


def _output(input: Tensor, offset: Tensor, mask: Tensor, *arguments: Any) -> Tensor:
    return input.new_empty((*offset.shape[:3], input.shape[3]))


def _reference(input: Tensor, offset: Tensor, mask: Tensor, *arguments: Any) -> Tensor:
    return dcnv3_pytorch(input, offset, mask, geometry_of(*arguments))


_operator = Differentiable(
    'dcnv3_triton', f'({_ARGUMENTS}) -> Tensor', _forward, _output,
    Registered('dcnv3_triton_backward', f'(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)', _backward,
               lambda grad, *saved: tuple(x.new_empty(x.shape) for x in saved[:3])),
    reference=_reference, saved=(), cast=triton_support.to_widest)


def _why_not(case: Case) -> str | None:
    if case.options.get('group_channels', 0) > MAX_CHANNELS:
        return f'serves groups of up to {MAX_CHANNELS} channels'
    return triton_support.why_not(case)


BACKEND = Backend('triton', run, _why_not)
