"""Classification heads for mmpretrain's ``ImageClassifier`` on the feature maps that detectors use."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.utils.arguments import check_range, check_whole


class ClassifierHead(BaseModule):
    """Base class of the classification heads; subclasses implement ``forward``.

    Provides ``loss`` and ``predict``, which mmpretrain's ``ImageClassifier`` calls. Targets are class indices
    (``gt_label``) or soft scores (``gt_score``, as written by Mixup and CutMix).

    Args:
        num_classes: Number of classes.
        loss: Config of a loss over (logits, targets) from mmpretrain's registry; cross-entropy if None.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, loss: dict | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_whole(0, num_classes=num_classes)  # 0 until the classes of a folder are known
        self.num_classes = num_classes
        self.loss_module = MODELS.build(loss) if loss else None

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Map the backbone's maps, each (B, C_i, H_i, W_i), to logits (B, num_classes)."""
        raise NotImplementedError

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence[Any], **kwargs: Any) -> dict[str, Tensor]:
        """Compute ``dict(loss=scalar)`` for a batch of mmpretrain ``DataSample``."""
        return {'loss': self.loss_of_logits(self(feats), targets_of(data_samples))}

    def loss_of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss of (B, K) logits and (B,) indices or (B, K) scores, in float32 also under autocast."""
        with torch.autocast(logits.device.type, enabled=False):
            if self.loss_module is None:
                return F.cross_entropy(logits.float(), target)
            return self.loss_module(logits.float(), target, avg_factor=len(logits))

    def predict(self, feats: Sequence[Tensor], data_samples: Sequence[Any] | None = None) -> list[Any]:
        """Return data samples with ``pred_score`` (num_classes,), the probabilities, and ``pred_label``."""
        from mmpretrain.structures import DataSample
        scores = self(feats).float().softmax(1)
        samples = [DataSample() for _ in scores] if data_samples is None else list(data_samples)
        for sample, score in zip(samples, scores, strict=True):
            if sample is not None:
                sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True).detach())
        return samples


@MODELS.register_module()
class LayerNormClsHead(ClassifierHead):
    """Global average of the last map, LayerNorm, linear layer: the head of ConvNeXt and of ViT as fine-tuned by MAE.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the last map.
        norm_eps: Epsilon of the LayerNorm.
        init_std: Standard deviation of the truncated normal distribution that initializes the linear layer.
        init_scale: Factor applied to the initial weights of the linear layer.
        loss: See :class:`ClassifierHead`.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, in_channels: int, norm_eps: float = 1e-6, init_std: float = 0.02,
                 init_scale: float = 1.0, loss: dict | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_classes, loss, init_cfg)
        check_whole(1, in_channels=in_channels)
        check_range(0, inf, norm_eps=norm_eps, init_std=init_std, init_scale=init_scale)
        self.init_std, self.init_scale = init_std, init_scale
        self.norm = nn.LayerNorm(in_channels, eps=norm_eps)
        self.fc = nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.trunc_normal_(self.fc.weight, std=self.init_std)
        nn.init.zeros_(self.fc.bias)
        with torch.no_grad():
            self.fc.weight.mul_(self.init_scale)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """(..., (B, in_channels, H, W)) -> (B, num_classes)."""
        return self.fc(self.norm(feats[-1].mean((2, 3))))


@MODELS.register_module()
class VectorClsHead(ClassifierHead):
    """Linear layer on the vectors that a backbone returns, such as ``TimmViTDet(out_type='cls_avg')``.

    It has the parameters of mmpretrain's ``LinearClsHead``.

    Args:
        num_classes: Number of classes.
        in_channels: Length of the vectors.
        init_std: Standard deviation of the normal distribution that initializes the weights.
        loss: See :class:`ClassifierHead`.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, in_channels: int, init_std: float = 0.01, loss: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_classes, loss, init_cfg)
        check_whole(1, in_channels=in_channels)
        check_range(0, inf, init_std=init_std)
        self.init_std = init_std
        self.fc = nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.normal_(self.fc.weight, std=self.init_std)
        nn.init.zeros_(self.fc.bias)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """(..., (B, in_channels)) -> (B, num_classes)."""
        return self.fc(feats[-1])


def targets_of(data_samples: Sequence[Any]) -> Tensor:
    """Return (B,) class indices, or (B, K) soft scores if a batch augmentation wrote them."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])
