"""Apply functions of single rows in chunks that fit a CPU's cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 512  #: rows in a chunk: enough for fast products, few enough that hidden features fit the cache


def should_chunk(x: Tensor) -> bool:
    """Whether chunks of ``x`` (..., C) save time: without gradients, in float32 on a CPU, for more than ``ROWS`` rows.

    With autocast or 16-bit types every chunk would convert the weights again.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    plain = x.dtype == torch.float32 and x.device.type == 'cpu' and not torch.is_autocast_enabled('cpu')
    return plain and x.shape[:-1].numel() > ROWS


def in_chunks(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Apply a function of rows to ``ROWS`` of them at a time.

    Args:
        function: takes as many tensors (n, C) and returns (n, C').
        *tensors: at least one, each (..., C) with the same dimensions before the channels and more than 0 rows.

    Returns:
        (..., C').
    """
    rows = [each.reshape(-1, each.shape[-1]) for each in tensors]
    out: Tensor | None = None
    for start in range(0, len(rows[0]), ROWS):
        part = function(*(each[start:start + ROWS] for each in rows))
        if out is None:
            out = part.new_empty(len(rows[0]), part.shape[-1])
        out[start:start + ROWS] = part
    assert out is not None
    unflattened: Tensor = out.unflatten(0, tensors[0].shape[:-1])
    return unflattened
