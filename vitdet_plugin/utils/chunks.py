"""Functions of single tokens, computed for a part of the tokens at a time, so that temporary tensors fit the cache."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 512  # tokens in a chunk: enough for fast products, few enough that the hidden features of an MLP fit the cache


def should_chunk(x: Tensor) -> bool:
    """Whether :func:`in_chunks` is faster: more than 512 tokens (..., C), without gradients, in float32 on a CPU."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # with autocast or 16-bit types every chunk would convert the weights again
    plain = x.dtype == torch.float32 and x.device.type == 'cpu' and not torch.is_autocast_enabled('cpu')
    return plain and x.shape[:-1].numel() > ROWS


def in_chunks(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function of single tokens for at most 512 tokens at a time.

    Args:
        function: Computes (rows, C') from parts (rows, C_i) of the tensors, each row from the same row of each.
        tensors: (..., C_i) with the same dimensions before the channels, and at least one token.

    Returns:
        (..., C').
    """
    parts = [x.reshape(-1, x.shape[-1]) for x in tensors]
    rows = len(parts[0])
    out: Tensor | None = None
    for start in range(0, rows, ROWS):
        part = function(*(x[start:start + ROWS] for x in parts))
        if out is None:
            out = part.new_empty(rows, part.shape[-1])
        out[start:start + ROWS] = part
    assert out is not None  # there is at least one token
    unflattened: Tensor = out.unflatten(0, tensors[0].shape[:-1])
    return unflattened
