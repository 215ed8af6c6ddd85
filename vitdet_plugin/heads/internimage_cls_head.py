"""Classification heads of InternImage: T to XL, and the CLIP projector of H and G (arXiv 2211.05778)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.heads.cls_head import ClassifierHead
from vitdet_plugin.utils.arguments import check_heads, check_range, check_sizes, check_whole


@MODELS.register_module()
class InternImageClsHead(ClassifierHead):
    """1x1 convolution, BatchNorm, GELU, global average, linear layer, on the last map.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the last map, 8 times InternImage's ``channels``.
        cls_scale: Ratio of the convolution's output to its input channels.
        loss: See :class:`ClassifierHead`.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, in_channels: int, cls_scale: float = 1.5, loss: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_classes, loss, init_cfg)
        check_whole(1, in_channels=in_channels)
        check_range(1 / in_channels, inf, cls_scale=cls_scale)
        width = int(in_channels * cls_scale)
        self.conv = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.GELU()
        self.fc = nn.Linear(width, num_classes)

    def init_weights(self) -> None:
        super().init_weights()
        _init_linear(self)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """(..., (B, in_channels, H, W)) -> (B, num_classes)."""
        return self.fc(self.act(self.norm(self.conv(feats[-1]))).mean((2, 3)))


class AttentionPool(nn.Module):
    """Attention pooling, (B, N, dim) -> (B, out_dim); the query is the mean of the tokens."""

    def __init__(self, dim: int, out_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(dim, eps=1e-6) for _ in range(3))
        self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        q, k, v = (project(norm(tokens)).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
                   for project, norm, tokens in ((self.q, self.norm_q, mean), (self.k, self.norm_k, x),
                                                 (self.v, self.norm_v, x)))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))


@MODELS.register_module()
class InternImageClipHead(ClassifierHead):
    """Head of InternImage-H and G: sum of the last two maps, attention pooling, LayerNorm, linear layer.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the last two maps; the backbone requires ``out_indices=(2, 3)``.
        embed_dim: Width before the pooling.
        clip_dim: Width after the pooling.
        num_heads: Attention heads of the pooling.
        loss: See :class:`ClassifierHead`.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, in_channels: Sequence[int], embed_dim: int = 1024, clip_dim: int = 768,
                 num_heads: int = 16, loss: dict | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_classes, loss, init_cfg)
        check_sizes(2, in_channels=in_channels)
        check_whole(1, clip_dim=clip_dim)
        check_heads(num_heads, embed_dim=embed_dim)
        self.x3_proj = nn.Conv2d(in_channels[0], embed_dim, 1)
        self.x4_proj = nn.Conv2d(in_channels[1], 4 * embed_dim, 1)
        self.pool = AttentionPool(embed_dim, clip_dim, num_heads)
        self.norm = nn.LayerNorm(clip_dim, eps=1e-6)
        self.fc = nn.Linear(clip_dim, num_classes)

    def init_weights(self) -> None:
        super().init_weights()
        _init_linear(self)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """(..., (B, C_3, H, W), (B, C_4, H / 2, W / 2)) -> (B, num_classes)."""
        x3 = self.x3_proj(feats[-2])
        x4 = F.pixel_shuffle(self.x4_proj(feats[-1]), 2)[:, :, :x3.shape[2], :x3.shape[3]]  # odd sizes round up
        return self.fc(self.norm(self.pool((x4 + x3).flatten(2).transpose(1, 2))))


def _init_linear(module: nn.Module) -> None:
    """Initialize linear layers: truncated normal (0.02), zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
