"""The compiled CPU kernel of linear layers with blocks of 4 x 4 on the diagonal of their matrix; for inference.

It is a function of one layer, :class:`vitdet_plugin.layers.block_diagonal.BlockDiagonalLinear`, which has the form for
all other calls; so it has no dispatch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS, why_not

_BLOCK = 4


def can_multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernel can serve a call: compiled, blocks of 4 x 4, on a CPU, and neither traced nor recorded."""
    if weight.shape[-1] != _BLOCK or torch.compiler.is_compiling() or why_not(case_of(x)) is not None:
        return False
    return not torch.is_grad_enabled() or not any(each is not None and each.requires_grad for each in (x, weight, bias))


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
    out: Tensor = torch.ops.vitdet_plugin.block_diagonal(x, weight, bias, heads)
    return out


def _register() -> None:
    """Register the shape for tracing."""
    def like_heads(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
        return x.new_empty(heads, x.shape[0], x.shape[1], x.shape[2] // heads)

    torch.library.register_fake(f'{NAMESPACE}::block_diagonal', like_heads)


if STATUS['cpu'] is None:
    _register()
