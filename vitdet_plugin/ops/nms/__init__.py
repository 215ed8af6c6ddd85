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


def _triton(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    if not len(order):
        return order
    from vitdet_plugin.ops.nms import triton_kernels
    count, words = len(order), -(-len(order) // _BITS)
    ranked = boxes[order].t().contiguous()
    areas = (ranked[2] - ranked[0]) * (ranked[3] - ranked[1])
    masks = torch.empty(count, words, dtype=torch.int64, device=boxes.device)
    keep = torch.empty(count, dtype=torch.bool, device=boxes.device)
    width = next_power_of_2(words, 1)
    with triton_support.on_device(boxes):
        triton_kernels.overlap_kernel[(words, words)](ranked, areas, masks, count, words, iou_threshold)
        triton_kernels.select_kernel[(1,)](masks, keep, count, words, WORDS=width,
                                           ROWS=max(1, min(_BITS, _LOADED // width)), num_warps=8)
    return order[keep]


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
