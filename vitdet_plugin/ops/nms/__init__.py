"""Greedy non-maximum suppression.

===============  ============================================================================================
backend          description
===============  ============================================================================================
triton           64 boxes in each step of the sequential part; no build step (GPU)
torchvision      its compiled operator, one box in each step (CPU, GPU)
===============  ============================================================================================
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops import triton_support
from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Backend, Case, Operator
from vitdet_plugin.ops.triton_support import next_power_of_2

MAX_BOXES = 20_000  #: of the Triton kernels, whose masks take N^2 / 8 bytes
_BITS = 64
_LOADED = 8192  # words that a program reads at once


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, backend: str | None = None) -> Tensor:
    """Return the indices of the boxes that are kept, by descending score.

    Args:
        boxes: (N, 4), x1 y1 x2 y2; float32 for the Triton kernels.
        scores: (N,).
        iou_threshold: a box is removed if its IoU with a kept box of higher score is greater than this.
        backend: backend to use; None or 'auto' for the first that can serve the call.

    Returns:
        (K,) int64.

    Raises:
        BackendError: ``backend`` is unknown or cannot serve the call.
    """
    chosen = OPERATOR.choose(case_of(boxes, boxes=len(boxes)), backend)
    kept: Tensor = chosen.run(boxes, scores, iou_threshold)
    return kept


def nms_of_images(boxes: Tensor, scores: Tensor, iou_threshold: float,
                  backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Suppress boxes of several images; a GPU is not waited for if the Triton kernels serve the call.

    Args:
        boxes: (B, N, 4), x1 y1 x2 y2; float32 for the Triton kernels.
        scores: (B, N).
        iou_threshold: as for :func:`nms`.
        backend: as for :func:`nms`.

    Returns:
        (B, N) int64, the boxes of each image by descending score, and (B, N) bool, which of those are kept.
    """
    chosen = OPERATOR.choose(case_of(boxes, boxes=boxes.shape[1]), backend)
    order = scores.argsort(dim=1, descending=True, stable=True)
    if chosen.run is _triton:
        return order, _keep(boxes.gather(1, order[..., None].expand(-1, -1, 4)), iou_threshold)
    kept = torch.zeros_like(order, dtype=torch.bool)
    for mask, own_boxes, own_scores in zip(kept, boxes, scores):
        mask.index_fill_(0, chosen.run(own_boxes, own_scores, iou_threshold), True)
    return order, kept.gather(1, order)


def _triton(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    return order[_keep(boxes[order][None], iou_threshold)[0]]


def _keep(ranked: Tensor, iou_threshold: float) -> Tensor:
    """Return which boxes are kept, (B, N) bool, of boxes (B, N, 4) by descending score."""
    images, count = ranked.shape[:2]
    keep = torch.empty(images, count, dtype=torch.bool, device=ranked.device)
    if not keep.numel():
        return keep
    from vitdet_plugin.ops.nms import triton_kernels
    words = -(-count // _BITS)
    corners = ranked.transpose(1, 2).contiguous()
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    masks = torch.empty(images, count, words, dtype=torch.int64, device=ranked.device)
    width = next_power_of_2(words, 1)
    with triton_support.on_device(ranked):
        triton_kernels.overlap_kernel[(words, words, images)](corners, areas, masks, count, words, iou_threshold)
        triton_kernels.select_kernel[(images,)](masks, keep, count, words, WORDS=width,
                                                ROWS=max(1, min(_BITS, _LOADED // width)), num_warps=8)
    return keep


def _why_not_triton(case: Case) -> str | None:
    if case.dtype not in (None, torch.float32):
        return f'serves float32, not {case.dtype}'
    if case.options.get('boxes', 0) > MAX_BOXES:
        return f'serves up to {MAX_BOXES} boxes'
    return triton_support.why_not(case)


def _torchvision(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    import torchvision  # noqa: F401  loads torch.ops.torchvision
    kept: Tensor = torch.ops.torchvision.nms(boxes, scores, iou_threshold)
    return kept


OPERATOR = Operator('nms', [Backend('triton', _triton, _why_not_triton),
                            Backend('torchvision', _torchvision, lambda case: None)])
