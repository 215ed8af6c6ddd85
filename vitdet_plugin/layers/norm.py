"""Layer normalization over the channels of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class LayerNorm2d(nn.Module):
    """LayerNorm over the channels at each position of a (B, C, H, W) map (the ``LN2d`` of ViTDet, arXiv 2203.16527).

    In a config: ``norm_cfg=dict(type='LayerNorm2d', eps=1e-6)``. The result is in ``channels_last`` order, without a
    copy if the input is, too. Not a subclass of ``nn.LayerNorm``: detectron2's rule applies weight decay to it.

    Args:
        num_channels: channels.
        eps: added to the variance.
    """

    _abbr_ = 'ln'

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        normed = F.layer_norm(x.permute(0, 2, 3, 1), (self.num_channels,), self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f'{self.num_channels}, eps={self.eps}'
