"""Two linear layers with an activation between them; at inference on CPUs in chunks that fit the cache."""

from __future__ import annotations

import timm.layers
from torch import Tensor, nn

from vitdet_plugin.ops.linear import linear
from vitdet_plugin.utils.chunks import in_chunks, should_chunk


class Mlp(timm.layers.Mlp):
    """timm's MLP (parameters ``fc1.*``, ``fc2.*``) for any number of dimensions before the channels.

    Without gradients, in float32 on a CPU, the hidden features of at most 512 tokens are computed at a time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        return in_chunks(self._forward_all, x) if should_chunk(x) else self._forward_all(x)

    def _forward_all(self, x: Tensor) -> Tensor:
        if self.training or not isinstance(self.norm, nn.Identity):
            out: Tensor = super().forward(x)
            return out
        return linear(self.fc2, linear(self.fc1, x, self.act))
