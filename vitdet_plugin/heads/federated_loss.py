"""Federated losses for LVIS, over a sample of the classes in each step (arXiv 2103.07461, section 4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import check_range, check_whole
from vitdet_plugin.utils.text_files import read_text


@MODELS.register_module()
class FederatedSigmoidLoss(nn.Module):
    """Binary cross-entropy over the classes present and some absent classes, sampled by frequency ** power.

    LVIS images are not annotated exhaustively, so a class that was not annotated must not count as background. The box
    head has ``num_classes + 1`` outputs, as in detectron2; the last one is not used.

    Args:
        frequencies: Images per class, or the path of an LVIS annotation file whose categories have ``image_count``.
            None uses every class in every step (plain sigmoid cross-entropy).
        num_sampled: Number of classes used in each step.
        power: Exponent of the frequencies.
        loss_weight: Factor of the loss.
    """

    # mmdet's box head reads these from losses other than softmax
    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(self, frequencies: Sequence[float] | str | None = None, num_sampled: int = 50, power: float = 0.5,
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self._sampler = None if frequencies is None else _ClassSampler(
            frequencies, num_sampled, power, type(self).__name__)

    def get_cls_channels(self, num_classes: int) -> int:
        """Return the number of outputs of the classifier."""
        return num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Map (n, K + 1) scores to (n, K + 1) probabilities; the background's is always 0."""
        return F.pad(cls_score[:, :-1].float().sigmoid(), (0, 1))

    def invert_activation(self, probabilities: Tensor) -> Tensor:
        """Map (n, K + 1) probabilities to scores: the inverse of :meth:`get_activation`."""
        return probabilities.logit(eps=1e-12)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the accuracy in percent of the foreground boxes."""
        foreground = labels < cls_score.shape[1] - 1
        right = cls_score[foreground, :-1].argmax(1) == labels[foreground]
        return dict(acc_classes=100 * right.float().sum() / foreground.sum().clamp(min=1))

    def forward(self, cls_score: Tensor, labels: Tensor, label_weights: Tensor | None = None,
                avg_factor: float | None = None, **kwargs: Any) -> Tensor:
        """Compute the loss: the sum over the sampled classes, divided by the number of boxes.

        Args:
            cls_score: (n, K + 1) logits.
            labels: (n,) class indices; K is background.
            label_weights: (n,) weights of the boxes.
            avg_factor: Divisor of the sum; the number of boxes by default.
            **kwargs: Not used.
        """
        num_classes = cls_score.shape[1] - 1
        if not len(cls_score):
            return cls_score.sum() * 0
        target = F.one_hot(labels, num_classes + 1)[:, :-1].to(cls_score.dtype)
        loss = F.binary_cross_entropy_with_logits(cls_score[:, :-1], target, reduction='none')
        if self._sampler is not None:
            loss = loss * self._sampler(labels, num_classes)
        if label_weights is not None:
            loss = loss * label_weights[:, None]
        return self.loss_weight * loss.sum() / (avg_factor or len(cls_score))


class _ClassSampler:
    """Draw the classes that a step counts.

    Args:
        frequencies: Images per class, or the path of an LVIS annotation file.
        num_sampled: Number of classes in each step.
        power: Exponent of the frequencies.
        loss: Name of the loss, for messages.
    """

    def __init__(self, frequencies: Sequence[float] | str, num_sampled: int, power: float, loss: str) -> None:
        check_whole(0, num_sampled=num_sampled)
        check_range(-inf, inf, power=power)
        self.frequencies, self.num_sampled, self.power, self.loss = frequencies, num_sampled, power, loss
        self._class_weights: Tensor | None = None

    def __call__(self, labels: Tensor, num_classes: int) -> Tensor:
        """(K,) mask of the classes in ``labels`` and of others, up to ``num_sampled``, drawn without replacement."""
        if self._class_weights is None:
            self._class_weights = torch.tensor(_read_frequencies(self.frequencies, self.loss)).pow(self.power)
        if len(self._class_weights) != num_classes:
            raise UserError(f'{self.loss}: frequencies of {len(self._class_weights)} classes were given, but '
                            f'the box head has {num_classes}; give one number for each class')
        present = labels[labels < num_classes].unique()
        counted = torch.zeros(num_classes, device=labels.device)
        counted[present] = 1
        weights = self._class_weights.to(labels.device) * (1 - counted)
        # background counts as a present class, as in detectron2
        missing = min(self.num_sampled - len(labels.unique()), int((weights > 0).sum()))
        if missing > 0:
            counted[torch.multinomial(weights, missing)] = 1
        return counted


@MODELS.register_module()
class FederatedFocalLoss(FocalLoss):
    """Sigmoid focal loss over the classes present and some absent classes, for DINO and other heads without background.

    Every layer of a decoder draws its own classes.

    Args:
        frequencies: Images per class, or the path of an LVIS annotation file whose categories have ``image_count``.
        num_sampled: Number of classes used in each step.
        power: Exponent of the frequencies.
        **kwargs: Arguments of mmdet's ``FocalLoss``, such as ``gamma``, ``alpha`` and ``loss_weight``.
    """

    def __init__(self, frequencies: Sequence[float] | str, num_sampled: int = 50, power: float = 0.5,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sampler = _ClassSampler(frequencies, num_sampled, power, type(self).__name__)

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: float | None = None,
                reduction_override: str | None = None) -> Tensor:
        """Compute the loss of the sampled classes.

        Args:
            pred: (n, K) logits.
            target: (n,) class indices; K is background.
            weight: (n,) weights of the queries.
            avg_factor: Divisor of the sum; the number of queries by default.
            reduction_override: Replaces ``reduction``.
        """
        counted = self._sampler(target, pred.shape[1]).expand_as(pred)
        weight = counted if weight is None else counted * weight[:, None]
        return super().forward(pred, target, weight.contiguous(), avg_factor, reduction_override)


def _read_frequencies(source: Sequence[float] | str, loss: str) -> list[float]:
    if not isinstance(source, str):
        return [float(count) for count in source]
    if not Path(source).is_file():
        raise UserError(f'{loss}: {source} does not exist; set frequencies to the LVIS training file')
    try:
        content = json.loads(read_text(source))
    except ValueError as error:
        raise UserError(f'{loss}: {source} is not valid JSON ({error}); download it again') from None
    if not isinstance(content, dict) or not content.get('categories'):
        raise UserError(f'{loss}: {source} has no categories; give an LVIS annotation file')
    try:
        counts = {category['id']: float(category['image_count']) for category in content['categories']}
    except (KeyError, TypeError, ValueError):
        raise UserError(f'{loss}: the categories of {source} have no image_count; '
                        'give an LVIS annotation file') from None
    return [counts[key] for key in sorted(counts)]
