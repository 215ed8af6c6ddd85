"""Sigmoid focal loss (Lin et al., 2017) with the signatures of mmcv's extension, in plain PyTorch.

mmdet has its own implementation for the CPU and calls the operator for tensors on an accelerator.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.compat.precision import widen


def _loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Loss (N, C) of ``logits`` (N, C) for class indices ``target`` (N,); a class >= C means background."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    positive = target[:, None] == classes
    p = logits.sigmoid()
    loss = torch.where(positive, -alpha * (1 - p) ** gamma * F.logsigmoid(logits),
                       -(1 - alpha) * p ** gamma * F.logsigmoid(-logits))
    if weight.numel():  # one weight per class; every entry of a row has the weight of the row's target class
        loss = loss * weight[target.clamp(max=len(weight) - 1)][:, None]
    return loss


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Fill ``output`` (N, C) with the loss of each logit; ``weight`` is (C,) or empty."""
    wide_input, wide_weight = widen(input.detach(), weight.detach())
    output.copy_(_loss(wide_input, target, wide_weight, gamma, alpha))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Fill ``grad_input`` (N, C) with the derivative of each loss by its logit."""
    wide_input, wide_weight = widen(input.detach(), weight.detach())
    wide_input.requires_grad_()
    with torch.enable_grad():
        total = _loss(wide_input, target, wide_weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(total, wide_input)[0])
