"""LayerNorm whose weight is stored as its difference from 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OffsetLayerNorm(nn.Module):
    """LayerNorm over the last dimension that multiplies by ``1 + weight``, as in xLSTM's checkpoints.

    Weight decay pulls the factor to 1. Not a subclass of ``nn.LayerNorm``, whose weight is the factor itself.

    Args:
        dim: size of the last dimension.
        bias: whether to add a bias.
        eps: added to the variance.
        groups: number of parts of the last dimension that are normalized separately.
    """

    def __init__(self, dim: int, *, bias: bool = True, eps: float = 1e-5, groups: int = 1) -> None:
        super().__init__()
        self.dim, self.eps, self.groups = dim, eps, groups
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def reset_parameters(self) -> None:
        """Initialize to factor 1 and bias 0."""
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
