"""DCNv3 by the compiled kernels. Importing this module loads the available libraries and never fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ops_dcnv3.geometry import Geometry
from ops_dcnv3.reference import dcnv3_pytorch
from vitdet_plugin.ops.derivatives import derivative, register_derivative
from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Backend, Case
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


def geometry_of(kernel: list[Any], stride: list[Any], pad: list[Any], dilation: list[Any], *rest: Any) -> Geometry:
    """Invert :func:`operator_arguments`."""
    return Geometry(*kernel, *stride, *pad, *dilation, *rest)


def _backend(device: str) -> Backend:
    def why_not(case: Case) -> str | None:
        if case.device != device:
            return f'serves tensors on {device}, not on {case.device}'
        if case.transformed:
            return STATUS[device] or NOT_TRANSFORMED
        # ONNX has no such operator, but has those of the PyTorch form
        return STATUS[device] or ('cannot be exported to ONNX' if case.exporting and not case.named else None)

    return Backend(device, run, why_not)


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    def like_output(input: Tensor, offset: Tensor, mask: Tensor, *geometry: Any) -> Tensor:
        return input.new_empty((*offset.shape[:3], input.shape[3]))

    def like_inputs(grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor, *geometry: Any) -> tuple[Tensor, ...]:
        return tuple(t.new_empty(t.shape) for t in (input, offset, mask))

    def formula(input: Tensor, offset: Tensor, mask: Tensor, *geometry: Any) -> Tensor:
        return dcnv3_pytorch(input, offset, mask, geometry_of(*geometry))

    torch.library.register_fake(f'{NAMESPACE}::dcnv3', like_output)
    torch.library.register_fake(f'{NAMESPACE}::dcnv3_backward', like_inputs)
    register_derivative(f'{NAMESPACE}::dcnv3',
                        *derivative(torch.ops.vitdet_plugin.dcnv3_backward, formula, tensors=3))


if STATUS['cpu'] is None:  # this library defines the operators; that for CUDA adds kernels
    _register()

CPU, CUDA = _backend('cpu'), _backend('cuda')
