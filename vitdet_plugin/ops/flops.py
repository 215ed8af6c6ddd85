"""Numbers of operations of compiled operators; :func:`register` adds them to those of ``torch.utils.flop_counter``."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from vitdet_plugin.ops.native import STATUS


@functools.cache
def register() -> None:
    """Let counters of torch count the compiled operators, where they are compiled."""
    if STATUS['cpu'] is not None:
        return
    from torch.utils.flop_counter import register_flop_formula  # imports Triton
    register_flop_formula(torch.ops.vitdet_plugin.attention)(_attention)
    register_flop_formula(torch.ops.vitdet_plugin.window_attention)(_window_attention)
    register_flop_formula(torch.ops.vitdet_plugin.block_diagonal)(_block_diagonal)
    register_flop_formula(torch.ops.vitdet_plugin.block_diagonal_backward)(_block_diagonal_backward)


def _attention(q: Any, k: Any, *others: Any, **kwargs: Any) -> int:
    return 4 * math.prod(q) * k[2]


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
