"""mmdet's ``MaxIoUAssigner`` does not wait for the GPU."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.compat.patching import Patch

_PATCH = Patch('mmdet.models.task_modules.assigners.max_iou_assigner.MaxIoUAssigner', 'assign_wrt_overlaps',
               upstream='mmdet 3.3 to 3.5',
               why='waits for a GPU three times for each image, and once for each object to match low overlaps')
_OVERLAPS = Patch('mmdet.models.task_modules.assigners.iou2d_calculator', 'bbox_overlaps', upstream='mmdet 3.3 to 3.5',
                  why='copies a small number to the GPU in each call')


def install() -> None:
    """Replace the assignment by one with the same results in which no size depends on values."""
    from mmdet.models.task_modules.assigners import AssignResult

    def wrap(original: Callable) -> Callable:
        @functools.wraps(original)
        def assign_wrt_overlaps(self: Any, overlaps: Tensor, gt_labels: Tensor) -> Any:
            if not overlaps.numel():
                return original(self, overlaps, gt_labels)
            highest, matched = overlaps.max(dim=0)
            gt_inds = torch.full_like(matched, -1)
            low, high = self.neg_iou_thr if isinstance(self.neg_iou_thr, tuple) else (0, self.neg_iou_thr)
            if isinstance(self.neg_iou_thr, (float, tuple)):
                gt_inds = gt_inds.masked_fill((highest >= low) & (highest < high), 0)
            gt_inds = torch.where(highest >= self.pos_iou_thr, matched + 1, gt_inds)
            if self.match_low_quality:
                # of several objects, the last one gets the box
                last = _best_boxes(self, overlaps)
                gt_inds = torch.where(last > 0, last, gt_inds)
            labels = torch.where(gt_inds > 0, gt_labels[(gt_inds - 1).clamp(min=0)], torch.full_like(gt_inds, -1))
            return AssignResult(num_gts=len(overlaps), gt_inds=gt_inds, max_overlaps=highest, labels=labels)

        return assign_wrt_overlaps

    _PATCH.install(wrap)
    _OVERLAPS.install(_without_copies)


def _without_copies(original: Callable) -> Callable:
    @functools.wraps(original)
    def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, mode: str = 'iou', is_aligned: bool = False,
                      eps: float = 1e-6) -> Tensor:
        if mode != 'iou' or is_aligned or bboxes1.dtype != torch.float32 or bboxes2.dtype != torch.float32 or not (
                bboxes1.ndim == bboxes2.ndim == 2):
            return original(bboxes1, bboxes2, mode, is_aligned, eps)
        areas1, areas2 = ((each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (bboxes1, bboxes2))
        size = torch.minimum(bboxes1[:, None, 2:], bboxes2[:, 2:]) - torch.maximum(bboxes1[:, None, :2], bboxes2[:, :2])
        width, height = size.clamp(min=0).unbind(-1)
        overlap = width * height
        return overlap / (areas1[:, None] + areas2 - overlap).clamp(min=eps)

    return bbox_overlaps


def _best_boxes(assigner: Any, overlaps: Tensor) -> Tensor:
    """(m,) index + 1 of the last of the n objects for which a box is the best; 0 for none; ``overlaps`` (n, m)."""
    best, index = overlaps.max(dim=1, keepdim=True)
    if assigner.gt_max_assign_all:
        is_best = overlaps == best
    else:
        is_best = torch.zeros_like(overlaps, dtype=torch.bool).scatter_(1, index, True)
    numbers = torch.arange(1, len(overlaps) + 1, device=overlaps.device)[:, None]
    return (numbers * (is_best & (best >= assigner.min_pos_iou))).amax(dim=0)
