"""Loads the compiled operators and tells PyTorch what it needs to know of them. Importing this never fails."""

from __future__ import annotations

import torch
from torch import Tensor

from ops_dcnv3 import library
from ops_dcnv3.geometry import Geometry

NAMESPACE = 'vitdet_plugin'
#: kind -> why it is not loaded; None if it is
STATUS: dict[str, str | None] = {}


def has_operator(name: str, device_type: str = 'cpu') -> bool:
    """Whether ``torch.ops.vitdet_plugin.<name>`` is loaded and has a kernel for a device."""
    return STATUS.get(device_type, '') is None and torch._C._dispatch_has_kernel_for_dispatch_key(
        f'{NAMESPACE}::{name}', device_type.upper())


def run(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """The compiled operator on checked arguments."""
    return torch.ops.vitdet_plugin.dcnv3(input, offset, mask, *_lists(geometry))


def _lists(geometry: Geometry) -> tuple:
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, *rest = geometry
    return ([kernel_h, kernel_w], [stride_h, stride_w], [pad_h, pad_w], [dilation_h, dilation_w], *rest)


def _load() -> None:
    for kind in library.KINDS:
        STATUS[kind] = library.opted_out() or STATUS.get('cpu') or _load_library(kind)
    if STATUS['cpu'] is None:
        _describe()


def _load_library(kind: str) -> str | None:
    path = library.find(kind)
    if path is None:
        return library.why_not_found(kind)
    try:
        torch.ops.load_library(path)
    except Exception as error:  # whatever a broken or foreign library raises
        return f'{path} does not load: {" ".join(str(error).split())}'
    return None


def _describe() -> None:
    """Shapes for tracing, and the derivative."""
    @torch.library.register_fake(f'{NAMESPACE}::dcnv3')
    def _(input, offset, mask, *geometry):
        return input.new_empty((*offset.shape[:3], input.shape[3]))

    @torch.library.register_fake(f'{NAMESPACE}::dcnv3_backward')
    def _(grad, input, offset, mask, *geometry):
        return tuple(t.new_empty(t.shape) for t in (input, offset, mask))

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:3])
        ctx.geometry = inputs[3:]

    def backward(ctx, grad):
        gradients = torch.ops.vitdet_plugin.dcnv3_backward(grad, *ctx.saved_tensors, *ctx.geometry)
        return (*gradients, *(None for _ in ctx.geometry))

    torch.library.register_autograd(f'{NAMESPACE}::dcnv3', backward, setup_context=setup_context)
    _describe_softmax()


def _describe_softmax() -> None:
    for name, like in (('tap_softmax', 0), ('tap_softmax_backward', 1)):
        torch.library.register_fake(f'{NAMESPACE}::{name}', lambda *args, like=like: args[like].new_empty(
            args[like].shape))

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)
        ctx.taps = inputs[1]

    def backward(ctx, grad):
        return torch.ops.vitdet_plugin.tap_softmax_backward(grad, *ctx.saved_tensors, ctx.taps), None

    torch.library.register_autograd(f'{NAMESPACE}::tap_softmax', backward, setup_context=setup_context)


_load()
