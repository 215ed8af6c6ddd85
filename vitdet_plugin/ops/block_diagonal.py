"""The compiled CPU kernels of linear layers with blocks of 4 x 4 on the diagonal of their matrix.

It is a function of one layer, :class:`vitdet_plugin.layers.block_diagonal.BlockDiagonalLinear`, which has the form for
all other calls; so it has no dispatch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.derivatives import derivative, recording
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS, why_not

_BLOCK = 4


def can_multiply(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can serve a call: compiled, blocks of 4 x 4, on a CPU, and not traced."""
    return weight.shape[-1] == _BLOCK and not torch.compiler.is_compiling() and why_not(case_of(x)) is None


def multiply_block_diagonal(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Multiply the channels of each token by blocks of 4 x 4; sums are float32 at least.

    Args:
        x: (B, S, dim), contiguous or part of wider rows.
        weight: (dim / 4, 4, 4): blocks, outputs, inputs; of any floating point type.
        bias: (dim,) or None.
        heads: number of heads.

    Returns:
        (heads, B, S, dim / heads) with the dtype of ``x``.
    """
    out: Tensor = _BlockDiagonal.apply(x, weight, bias, heads)
    return out


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    out: Tensor = torch.ops.vitdet_plugin.block_diagonal(x, weight, bias, heads)
    return out


def _backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> list[Tensor | None]:
    grad_x, grad_weight, grad_bias = torch.ops.vitdet_plugin.block_diagonal_backward(grad, x, weight)
    return [grad_x, grad_weight.to(weight.dtype), None if bias is None else grad_bias.to(bias.dtype)]


def _formula(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    out = torch.einsum('bsni,noi->bsno', x.unflatten(2, (-1, _BLOCK)).to(wide), weight.to(wide)).flatten(2)
    if bias is not None:
        out = out + bias.to(wide)
    return out.unflatten(2, (heads, -1)).permute(2, 0, 1, 3).to(x.dtype)


class _BlockDiagonal(torch.autograd.Function):
    """Arguments and result of :func:`multiply_block_diagonal`."""

    _save, _gradients = derivative(_backward, _formula, tensors=3)
    forward, backward = staticmethod(recording(_forward, _save)), staticmethod(_gradients)


def _register() -> None:
    """Register shapes for tracing."""
    def like_heads(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
        return x.new_empty(heads, x.shape[0], x.shape[1], x.shape[2] // heads)

    def like_inputs(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        grad_weight = weight.new_empty(weight.shape[2], *weight.shape[:2], dtype=wide).permute(1, 2, 0)
        return x.new_empty(x.shape), grad_weight, x.new_empty(x.shape[2], dtype=wide)

    torch.library.register_fake(f'{NAMESPACE}::block_diagonal', like_heads)
    torch.library.register_fake(f'{NAMESPACE}::block_diagonal_backward', like_inputs)


if STATUS['cpu'] is None:
    _register()
