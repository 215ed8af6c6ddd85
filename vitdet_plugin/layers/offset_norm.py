"""LayerNorm whose weight is stored as its difference from 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OffsetLayerNorm(nn.Module):
    """LayerNorm over the last dimension that multiplies by ``1 + weight``, as xLSTM's models store it.

    With ``groups`` the last dimension is normalised in that many parts of its own, each token for itself. Decaying the
    weight pulls the factor to 1. Not an ``nn.LayerNorm``, whose weight means something else.
    """

    def __init__(self, dim: int, *, bias: bool = True, eps: float = 1e-5, groups: int = 1) -> None:
        super().__init__()
        self.dim, self.eps, self.groups = dim, eps, groups
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def reset_parameters(self) -> None:
        """Factor 1, bias 0."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        weight = 1 + self.weight
        if self.groups == 1:
            return F.layer_norm(x, (self.dim,), weight, self.bias, self.eps)
        normed = F.layer_norm(x.unflatten(-1, (self.groups, -1)), (self.dim // self.groups,), eps=self.eps).flatten(-2)
        return normed * weight if self.bias is None else torch.addcmul(self.bias, normed, weight)

    def extra_repr(self) -> str:
        return f'{self.dim}, eps={self.eps}, groups={self.groups}, bias={self.bias is not None}'
