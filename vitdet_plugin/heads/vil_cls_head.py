"""Classification head of Vision-LSTM (arXiv 2406.04303)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.heads.cls_head import ClassifierHead
from vitdet_plugin.utils.arguments import check_whole


@MODELS.register_module()
class VisionLSTMClsHead(ClassifierHead):
    """Linear layer on the pooled tokens of ``VisionLSTM(pooling=...)``, with a norm before it in version 2.

    The pooling is part of the backbone, because version 1 applies the backbone's output norm after it.

    Args:
        num_classes: Number of classes.
        in_channels: ``dim`` of the backbone; twice that with ``pooling='bilateral_flatten'``.
        legacy_norm: LayerNorm before the linear layer; the published models of version 2 have it.
        loss: See :class:`ClassifierHead`.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, in_channels: int, legacy_norm: bool = True, loss: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_classes, loss, init_cfg)
        check_whole(1, in_channels=in_channels)
        self.legacy_norm = nn.LayerNorm(in_channels, eps=1e-5) if legacy_norm else None
        self.fc = nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.trunc_normal_(self.fc.weight, std=2e-5)
        nn.init.zeros_(self.fc.bias)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """((B, in_channels, 1, 1),) -> (B, num_classes)."""
        pooled = torch.flatten(feats[-1], 1)
        return self.fc(pooled if self.legacy_norm is None else self.legacy_norm(pooled))
