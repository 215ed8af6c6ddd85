"""Numbers of operations of fused and compiled operators, for ``torch.utils.flop_counter``; see :func:`register`."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from vitdet_plugin.ops.native import STATUS


@functools.cache
def register() -> None:
    """Let counters of torch count the products of ``linear``, and the compiled operators where they are compiled."""
    from torch.utils.flop_counter import register_flop_formula  # imports Triton
    if hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_linear)
    if STATUS['cpu'] is not None:
        return
    register_flop_formula(torch.ops.vitdet_plugin.attention)(_attention)
    register_flop_formula(torch.ops.vitdet_plugin.attention_forward)(_attention)
    register_flop_formula(torch.ops.vitdet_plugin.attention_backward)(_attention_backward)
    register_flop_formula(torch.ops.vitdet_plugin.window_attention)(_window_attention)
    register_flop_formula(torch.ops.vitdet_plugin.block_diagonal)(_block_diagonal)
    register_flop_formula(torch.ops.vitdet_plugin.block_diagonal_backward)(_block_diagonal_backward)


def _linear(x: Any, weight: Any, *others: Any, **kwargs: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def _attention(q: Any, k: Any, *others: Any, **kwargs: Any) -> int:
    return 4 * math.prod(q) * k[2]


def _attention_backward(grad: Any, q: Any, k: Any, *others: Any, **kwargs: Any) -> int:
    return 10 * math.prod(q) * k[2]  # five products, with the scores that are computed again


def _window_attention(qkv: Any, padding: Any, table_h: Any, table_w: Any, heads: int, window: int, shift: int,
                      scale: float, **kwargs: Any) -> int:
    batch, *grid, channels = qkv
    counts = [-(-(size + shift) // window) for size in grid] if window else [1, 1]
    h, w = (window, window) if window else grid
    tokens = batch * math.prod(counts) * h * w  # with padding
    return 2 * tokens * channels // 3 * (2 * h * w + (0 if table_h is None else h + w))


def _block_diagonal(x: Any, weight: Any, *others: Any, **kwargs: Any) -> int:
    return 2 * weight[-1] * math.prod(x)


def _block_diagonal_backward(grad: Any, x: Any, weight: Any, **kwargs: Any) -> int:
    return 2 * _block_diagonal(x, weight)
