"""``nms`` and ``softnms`` with the signatures of mmcv's extension."""

from collections.abc import Callable

import numpy as np
import torch
import torchvision  # noqa: F401 (loads torch.ops.torchvision)
from torch import Tensor

from vitdet_plugin.compat.precision import widen

_on_gpus: Callable[[Tensor, Tensor, float], Tensor] | None = None


def use_on_gpus(suppress: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Let :func:`nms` call a function of boxes, scores and threshold for tensors on a GPU."""
    global _on_gpus
    _on_gpus = suppress


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Return the indices of the boxes that are kept, by descending score.

    Args:
        boxes: (N, 4), x1 y1 x2 y2 in pixels.
        scores: (N,).
        iou_threshold: A box is removed if its IoU with a box of higher score is greater than this.
        offset: 0, or 1 if a box covers ``x2 - x1 + 1`` pixels.
    """
    boxes, scores = widen(boxes.detach(), scores.detach())
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32: the double 0.6 would drop a pair whose IoU is 3/5 exactly
    if boxes.dtype == torch.float32:
        iou_threshold = float(np.float32(iou_threshold))
    if boxes.is_cuda and _on_gpus is not None:
        return _on_gpus(boxes, scores, iou_threshold)
    return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float, sigma: float, min_score: float,
            method: int, offset: int = 0) -> Tensor:
    """Soft-NMS (Bodla et al., 2017): lower the scores of overlapping boxes instead of dropping them.

    Args:
        boxes, scores: (N, 4) and (N,), on the CPU, as mmcv passes them.
        dets: (N, 5); the first K rows are filled with boxes and lowered scores, in the order of selection.
        iou_threshold: Overlap from which ``naive`` and ``linear`` lower a score.
        sigma: Width of ``gaussian``.
        min_score: Boxes with a lower score are dropped.
        method: 0 naive (score 0), 1 linear (times 1 - IoU), 2 gaussian (times exp(-IoU^2 / sigma)).

    Returns:
        (K,) indices of the kept boxes.
    """
    wide_boxes, wide_scores = (t.numpy() for t in widen(boxes.detach(), scores.detach()))
    rest = np.arange(len(wide_boxes))
    score = wide_scores.copy()
    kept: list[int] = []
    while len(rest):
        best = rest[score[rest].argmax()]
        kept.append(int(best))
        rest = rest[rest != best]
        iou = _iou(wide_boxes[best], wide_boxes[rest], offset)
        score[rest] *= _decay(iou, iou_threshold, sigma, method)
        rest = rest[score[rest] >= min_score]
    inds = torch.tensor(kept, dtype=torch.long, device=boxes.device)
    if kept:
        dets[:len(kept), :4] = boxes.detach()[inds].to(dets.dtype)
        dets[:len(kept), 4] = torch.from_numpy(score)[kept].to(dets.dtype)
    return inds


def _iou(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one box (4,) with M others (M, 4); 0 where both areas are 0."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]) + offset
    inter = size.clip(min=0).prod(axis=1)
    union = (box[2:] - box[:2] + offset).prod() + (others[:, 2:] - others[:, :2] + offset).prod(axis=1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union != 0)


def _decay(iou: np.ndarray, iou_threshold: float, sigma: float, method: int) -> np.ndarray:
    if method == 2:
        return np.exp(-iou * iou / np.float32(sigma))
    lowered = np.zeros_like(iou) if method == 0 else 1 - iou
    return np.where(iou >= np.float32(iou_threshold), lowered, 1).astype(iou.dtype)
