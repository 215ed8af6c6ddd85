"""DCNv3 by the compiled kernels. Importing this module loads the available libraries and never fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ops_dcnv3.geometry import Geometry
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.library import NAMESPACE, Library

LIBRARY = Library('dcnv3', 'ops_dcnv3', Path(__file__).resolve().parent, kinds=('cpu', 'cuda'))
#: kind -> why it is not loaded; None if it is
STATUS = LIBRARY.load()


def run(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """Call the compiled operator; arguments as :func:`ops_dcnv3.dcnv3`, already checked."""
    out: Tensor = torch.ops.vitdet_plugin.dcnv3(input, offset, mask, *operator_arguments(geometry))
    return out


def operator_arguments(geometry: Geometry) -> tuple[Any, ...]:
    """Return the static arguments as the compiled operator takes them."""
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, *rest = geometry
    return ([kernel_h, kernel_w], [stride_h, stride_w], [pad_h, pad_w], [dilation_h, dilation_w], *rest)


def _backend(device: str) -> Backend:
    def why_not(case: Case) -> str | None:
        if case.device != device:
            return f'serves tensors on {device}, not on {case.device}'
        # ONNX has no such operator, but has those of the PyTorch form
        return STATUS[device] or ('cannot be exported to ONNX' if case.exporting and not case.named else None)

    return Backend(device, run, why_not)


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    def like_output(input: Tensor, offset: Tensor, mask: Tensor, *geometry: Any) -> Tensor:
        return input.new_empty((*offset.shape[:3], input.shape[3]))

    def like_inputs(grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor, *geometry: Any) -> tuple[Tensor, ...]:
        return tuple(t.new_empty(t.shape) for t in (input, offset, mask))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.geometry = inputs[3:]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = torch.ops.vitdet_plugin.dcnv3_backward(grad, *ctx.saved_tensors, *ctx.geometry)
        return (*gradients, *(None for _ in ctx.geometry))

    torch.library.register_fake(f'{NAMESPACE}::dcnv3', like_output)
    torch.library.register_fake(f'{NAMESPACE}::dcnv3_backward', like_inputs)
    torch.library.register_autograd(f'{NAMESPACE}::dcnv3', backward, setup_context=setup_context)


if STATUS['cpu'] is None:  # this library defines the operators; that for CUDA adds kernels
    _register()

CPU, CUDA = _backend('cpu'), _backend('cuda')
