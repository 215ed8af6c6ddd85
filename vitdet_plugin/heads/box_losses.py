"""Losses of a box head for samples whose numbers the host has, so that it does not ask the GPU for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.losses import GIoULoss, L1Loss, SmoothL1Loss, accuracy, weight_reduce_loss
from mmdet.models.losses.smooth_l1_loss import l1_loss, smooth_l1_loss
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmengine.config import ConfigDict
from torch import Tensor

from vitdet_plugin.heads import box_deltas
from vitdet_plugin.heads.box_deltas import decode, encode
from vitdet_plugin.heads.deferred_sampler import DeferredSamples
from vitdet_plugin.heads.overrides import keeps
from vitdet_plugin.heads.transfers import constant, to_device


def regression_loss(loss: L1Loss | SmoothL1Loss | GIoULoss, predicted: Tensor, targets: Tensor, weights: Tensor,
                    avg_factor: float | Tensor) -> Tensor:
    """Return ``loss(predicted, targets, weights, avg_factor)`` without asking whether any weight is positive.

    Args:
        loss: ``L1Loss``, ``SmoothL1Loss`` or ``GIoULoss`` of mmdet.
        predicted, targets, weights: (..., 4); deltas, or boxes for ``GIoULoss``.
        avg_factor: Divisor of the sum.
    """
    if isinstance(loss, GIoULoss):
        value: Tensor = weight_reduce_loss(_giou_loss(predicted, targets, loss.eps), weights.mean(-1), loss.reduction,
                                           avg_factor)
        return loss.loss_weight * value
    options = dict(beta=loss.beta) if isinstance(loss, SmoothL1Loss) else {}
    function = smooth_l1_loss if options else l1_loss
    value = function(predicted, targets, weights, reduction=loss.reduction, avg_factor=avg_factor, **options)
    return loss.loss_weight * value


def _giou_loss(first: Tensor, second: Tensor, eps: float) -> Tensor:
    """1 - GIoU (..., ) of boxes (..., 4) (arXiv 1902.09630), as mmdet, which copies ``eps`` to the GPU in each call."""
    # in the backward pass, `clamp` makes a tensor of a number and needs three kernels, `relu` one
    smallest = constant((eps,), first.dtype, first.device)[0]
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    overlap = _area(F.relu(high - low))
    union = torch.maximum(_area(first[..., 2:] - first[..., :2]) + _area(second[..., 2:] - second[..., :2]) - overlap,
                          smallest)
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    enclosing = torch.maximum(_area(F.relu(high - low)), smallest)
    return 1 - (overlap / union - (enclosing - union) / enclosing)


def _area(size: Tensor) -> Tensor:
    width, height = size.unbind(-1)  # the gradient of `prod` would ask for zeros
    return width * height


def loss_and_targets(head: BBoxHead, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, samples: Sequence[Any],
                     cfg: ConfigDict) -> dict[str, Any]:
    """Return ``head.loss_and_target`` of the samples of all images.

    Args:
        head: Box head of mmdet.
        cls_score: (n, classes + 1), samples of all images, the positive ones of each image first.
        bbox_pred: (n, 4 classes), or (n, 4) if the head is class-agnostic.
        rois: (n, 5).
        samples: Results of a sampler for each image.
        cfg: ``pos_weight`` of positive samples.
    """
    if (bbox_pred is None or not len(cls_score) or not is_served(head)
            or not all(isinstance(each, DeferredSamples) for each in samples)):
        result: dict[str, Any] = head.loss_and_target(cls_score, bbox_pred, rois, samples, cfg)
        return result
    rows = to_device(torch.from_numpy(_positive_rows(samples)), cls_score.device)
    labels, weights, targets, target_weights = _targets(head, rois, rows, samples, cfg)
    # all weights are positive
    loss_cls = head.loss_cls(cls_score, labels, weights, avg_factor=float(len(labels)))
    losses = dict(loss_cls) if isinstance(loss_cls, dict) else dict(loss_cls=loss_cls)
    losses |= head.loss_cls.get_accuracy(cls_score, labels) if head.custom_activation else dict(
        acc=accuracy(cls_score, labels))
    if len(rows):
        deltas = bbox_pred.view(len(bbox_pred), -1, 4)
        chosen = deltas[rows, 0] if head.reg_class_agnostic else deltas[rows, labels[rows]]
        if head.reg_decoded_bbox:
            chosen = decode(head.bbox_coder, rois[rows, 1:], chosen.float())
        losses['loss_bbox'] = regression_loss(head.loss_bbox, chosen, targets[rows], target_weights[rows], len(targets))
    else:
        losses['loss_bbox'] = bbox_pred[:0].sum()
    return dict(loss_bbox=losses, bbox_targets=(labels, weights, targets, target_weights))


def is_served(head: BBoxHead) -> bool:
    """Whether :func:`loss_and_targets` computes the losses of a head without mmdet's code."""
    return (keeps(head, BBoxHead, 'loss', 'get_targets', '_get_targets_single', 'loss_and_target')
            and type(head.loss_bbox) in ((GIoULoss,) if head.reg_decoded_bbox else (L1Loss, SmoothL1Loss))
            and box_deltas.is_served(head.bbox_coder))


def _positive_rows(samples: Sequence[DeferredSamples]) -> np.ndarray:
    """Rows of the positive samples of all images, (p,) int64."""
    starts = np.cumsum([0, *(len(each.host_boxes) for each in samples)])
    return np.concatenate([np.arange(start, start + len(each.host_gt_inds)) for start, each in zip(starts, samples)])


def _targets(head: BBoxHead, rois: Tensor, rows: Tensor, samples: Sequence[DeferredSamples],
             cfg: ConfigDict) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels (n,), their weights (n,), deltas or boxes (n, 4) and their weights (n, 4), as ``head.get_targets``."""
    count = len(rois)
    labels = rois.new_full((count,), head.num_classes, dtype=torch.long)
    weights, targets, target_weights = rois.new_ones(count), rois.new_zeros(count, 4), rois.new_zeros(count, 4)
    labels[rows] = torch.cat([each.pos_gt_labels for each in samples])
    if cfg.pos_weight > 0:
        weights.index_fill_(0, rows, cfg.pos_weight)  # `weights[rows] = number` would copy the number to the GPU
    objects = torch.cat([each.pos_gt_bboxes for each in samples])
    goals = objects if head.reg_decoded_bbox else encode(head.bbox_coder, rois[rows, 1:], objects)
    targets[rows] = goals.to(targets.dtype)
    target_weights.index_fill_(0, rows, 1.0)
    return labels, weights, targets, target_weights
