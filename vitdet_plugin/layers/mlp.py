"""Two linear layers with an activation between them; at inference on CPUs in chunks that fit the cache."""

from __future__ import annotations

import timm.layers
import torch
from torch import Tensor

_ROWS = 512  # tokens in a chunk: enough for fast products, few enough that the hidden features fit the cache


class Mlp(timm.layers.Mlp):
    """timm's MLP (parameters ``fc1.*``, ``fc2.*``) for any number of dimensions before the channels.

    Without gradients, in float32 on a CPU, the hidden features of at most 512 tokens are computed at a time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        if not _should_chunk(x):
            return self._forward_all(x)
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor | None = None
        for start in range(0, len(rows), _ROWS):
            part = self._forward_all(rows[start:start + _ROWS])
            if out is None:
                out = part.new_empty(len(rows), part.shape[-1])
            out[start:start + _ROWS] = part
        assert out is not None  # chunked only if there are rows
        unflattened: Tensor = out.unflatten(0, x.shape[:-1])
        return unflattened

    def _forward_all(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        return out


def _should_chunk(x: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # with autocast or 16-bit types every chunk would convert the weights again
    plain = x.dtype == torch.float32 and x.device.type == 'cpu' and not torch.is_autocast_enabled('cpu')
    return plain and x.shape[:-1].numel() > _ROWS
