"""Two linear layers with an activation between them, for tokens; at inference on CPUs in chunks that fit the cache."""

from __future__ import annotations

import timm.layers
import torch
from torch import Tensor

_ROWS = 512  # tokens a chunk: enough for products at full speed, few enough that the hidden features stay in the cache


class Mlp(timm.layers.Mlp):
    """timm's (parameters ``fc1.*``, ``fc2.*``), any number of dimensions in front of the channels.

    Without gradients, in float32 on a CPU, the hidden features of no more than 512 tokens exist at a time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        if not _pays(x):
            return super().forward(x)
        rows, out = x.reshape(-1, x.shape[-1]), None
        for start in range(0, len(rows), _ROWS):
            part = super().forward(rows[start:start + _ROWS])
            if out is None:
                out = part.new_empty(len(rows), part.shape[-1])
            out[start:start + _ROWS] = part
        return out.unflatten(0, x.shape[:-1])


def _pays(x: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # in 16 bits every chunk would convert the weights again
    plain = x.dtype == torch.float32 and x.device.type == 'cpu' and not torch.is_autocast_enabled('cpu')
    return plain and x.shape[:-1].numel() > _ROWS
