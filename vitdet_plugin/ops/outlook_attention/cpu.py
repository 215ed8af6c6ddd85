"""Outlook attention by the compiled CPU kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops.derivatives import derivative, register_derivative
from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Backend, Case
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.outlook_attention.reference import outlook_attention_plain

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_KERNEL_SIZE = 3


def has_operator() -> bool:
    """Whether the loaded library has the kernel; compilers without GCC's vector types leave it out."""
    return STATUS['cpu'] is None and bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(f'{NAMESPACE}::outlook_attention', 'CPU'))


def outlook_attention_native(v: Tensor, a: Tensor, num_heads: int, kernel_size: int, stride: int, padding: int,
                             scale: float, dropout: float) -> Tensor:
    """Compiled kernel for ``kernel_size`` 3 and ``dropout`` 0.

    Arguments as :func:`vitdet_plugin.ops.outlook_attention.outlook_attention`.
    """
    out: Tensor = torch.ops.vitdet_plugin.outlook_attention(v, a, num_heads, stride, padding, scale)
    return out


def reference(v: Tensor, a: Tensor, num_heads: int, stride: int, padding: int, scale: float) -> Tensor:
    """Compute what the kernels do, by the reference implementation."""
    return outlook_attention_plain(v, a, num_heads, _KERNEL_SIZE, stride, padding, scale, 0.0)


_MISSING = STATUS['cpu'] or (None if has_operator() else 'left out by the compiler; build it with GCC or Clang')


def _why_not(case: Case) -> str | None:
    if _MISSING:
        return _MISSING
    if case.device not in ('cpu', 'meta'):
        return f'serves tensors on the CPU, not on {case.device}'
    kernel_size, dropout = case.options.get('kernel_size', _KERNEL_SIZE), case.options.get('dropout', 0.0)
    if kernel_size != _KERNEL_SIZE or dropout:
        return f'serves kernel_size={_KERNEL_SIZE} without dropout, not {kernel_size} with {dropout}'
    if case.dtype is not None and case.dtype not in _DTYPES:
        return f'does not serve {case.dtype}'
    if case.transformed:
        return NOT_TRANSFORMED
    return 'cannot be exported to ONNX' if case.exporting else None


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    name = f'{NAMESPACE}::outlook_attention'

    def like_values(v: Tensor, a: Tensor, heads: int, stride: int, padding: int, scale: float) -> Tensor:
        return torch.empty_like(v, memory_format=torch.contiguous_format)

    def like_inputs(grad: Tensor, v: Tensor, a: Tensor, heads: int, stride: int, padding: int,
                    scale: float) -> tuple[Tensor, Tensor]:
        return (torch.empty_like(v, memory_format=torch.contiguous_format),
                torch.empty_like(a, memory_format=torch.contiguous_format))

    torch.library.register_fake(name, like_values)
    torch.library.register_fake(f'{name}_backward', like_inputs)
    register_derivative(name, *derivative(torch.ops.vitdet_plugin.outlook_attention_backward, reference, tensors=2))


if _MISSING is None:
    _register()

BACKEND = Backend('native', outlook_attention_native, _why_not)
