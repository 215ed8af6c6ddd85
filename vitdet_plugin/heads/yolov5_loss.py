"""The parts of YOLOv5's loss: complete IoU and binary cross-entropy."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-7
_FOCAL_ALPHA = 0.25  # weight of positives in the focal factor


def complete_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """CIoU (arXiv 1911.08287, equations 9 to 11) of pairs of boxes; (n, 4) centers and sizes to (n,).

    The trade-off is alpha = v / (v - IoU + 1) for every IoU, without a gradient; mmdet's ``CIoULoss`` sets it to 0
    below an IoU of 0.5. Sizes are clamped to at least 1e-7 to keep the gradient of the angle finite.
    """
    center, size = boxes[:, :2], boxes[:, 2:].clamp(min=EPS)
    target_center, target_size = targets[:, :2], targets[:, 2:].clamp(min=EPS)
    low, high = center - size / 2, center + size / 2
    target_low, target_high = target_center - target_size / 2, target_center + target_size / 2
    intersection = (torch.minimum(high, target_high) - torch.maximum(low, target_low)).clamp(min=0).prod(1)
    iou = intersection / (size.prod(1) + target_size.prod(1) - intersection + EPS)
    enclosing = torch.maximum(high, target_high) - torch.minimum(low, target_low)
    distance = (center - target_center).square().sum(1) / (enclosing.square().sum(1) + EPS)
    angle = torch.atan(size[:, 0] / size[:, 1]) - torch.atan(target_size[:, 0] / target_size[:, 1])
    v = 4 / math.pi ** 2 * angle.square()
    with torch.no_grad():
        alpha = v / (v - iou + 1 + EPS)
    return iou - distance - alpha * v


def mean_bce(logits: Tensor, targets: Tensor, pos_weight: float = 1.0, focal_gamma: float = 0.0) -> Tensor:
    """Mean binary cross-entropy, optionally with the focal factor (arXiv 1708.02002, equation 5) for soft targets."""
    weight = None if pos_weight == 1.0 else logits.new_tensor([pos_weight])
    if not focal_gamma:
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
    losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction='none')
    probability = logits.sigmoid()
    right = targets * probability + (1 - targets) * (1 - probability)
    alpha = targets * _FOCAL_ALPHA + (1 - targets) * (1 - _FOCAL_ALPHA)
    return (losses * alpha * (1 - right) ** focal_gamma).mean()
