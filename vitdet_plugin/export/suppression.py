"""Non-maximum suppression of a batch, in tensors whose length does not depend on the images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from vitdet_plugin.export.candidates import take, top_scores, zero_low_scores
from vitdet_plugin.export.settings import NmsSettings
from vitdet_plugin.utils.exporting import may_vary

_uses_operator: ContextVar[bool] = ContextVar('uses_operator', default=False)


@contextlib.contextmanager
def with_operator() -> Iterator[None]:
    """Capture graphs with this module's operator, for :func:`suppression_translation`.

    Without it graphs have torchvision's, which suppresses boxes of one image. torch's own flag for exports is of no
    use: mmdet branches on it, too.
    """
    token = _uses_operator.set(True)
    try:
        yield
    finally:
        _uses_operator.reset(token)


def best_after_nms(boxes: Tensor, scores: Tensor, groups: Tensor, nms: NmsSettings, count: int,
                   *values: Tensor) -> tuple[Tensor, ...]:
    """Run NMS within each group of each image and keep the boxes of highest score.

    Args:
        boxes: Boxes of shape ``(B, M, 4)``.
        scores: Scores of shape ``(B, M)``; 0 marks removed boxes.
        groups: Group (class or level) of each box, of shape ``(B, M)``.
        nms: Settings of the suppression.
        count: Number of rows of the outputs.
        *values: More about each box, of shape ``(B, M, C)``.

    Returns:
        Boxes of shape ``(B, count, 4)``, scores and groups of shape ``(B, count)``, highest score first, and
        ``values`` of shape ``(B, count, C)``. Empty rows have score 0 and group -1.
    """
    scores = zero_low_scores(scores, nms.score_threshold)
    shifted = boxes
    if not nms.class_agnostic:  # as mmcv does: groups are moved apart
        shifted = boxes + (groups.to(boxes) * (boxes.amax((1, 2)) + 1)[:, None])[..., None]
    limit = min(count, nms.max_num or count)
    scores, rows = top_scores(_kept_scores(shifted, scores, nms.iou_threshold, limit), limit)
    missing = count - scores.shape[1]
    boxes = nn.functional.pad(take(boxes, rows) * (scores > 0)[..., None], (0, 0, 0, missing))
    groups = torch.where(scores > 0, groups.gather(1, rows), -1)
    more = (nn.functional.pad(take(each, rows), (0, 0, 0, missing)) for each in values)
    return boxes, nn.functional.pad(scores, (0, missing)), nn.functional.pad(groups, (0, missing), value=-1), *more


def _kept_scores(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Return the scores ``(B, M)`` with 0 for the boxes that NMS within each image removes.

    Only the ``limit`` highest are of use.
    """
    if _uses_operator.get():
        return _suppress(boxes, scores, iou_threshold, limit)
    if may_vary(boxes.shape[0]):
        return _suppress_together(boxes, scores, iou_threshold)
    return torch.stack([_suppress_image(*each, iou_threshold) for each in zip(boxes, scores)])


def _suppress_image(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    keep = torchvision.ops.nms(boxes, scores, iou_threshold)
    return scores * torch.zeros_like(scores).index_put((keep,), scores.new_ones(()))


def _suppress_together(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress in one call, with the images one below the other.

    Only y is moved: moving x as well would round it more coarsely than mmcv's shift of the groups does.
    """
    images = torch.arange(boxes.shape[0], device=boxes.device).to(boxes)
    band = images * (boxes.amax() - boxes.amin() + 1)
    x1, y1, x2, y2 = boxes.unbind(2)
    apart = torch.stack((x1, y1 + band[:, None], x2, y2 + band[:, None]), 2)
    return _suppress_image(apart.flatten(0, 1), scores.flatten(), iou_threshold).view_as(scores)


@torch.library.custom_op('vitdet_plugin::suppress', mutates_args=())
def _suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Stand in a captured graph for ONNX's ``NonMaxSuppression``, which takes batches."""
    return torch.stack([_suppress_image(*each, iou_threshold) for each in zip(boxes, scores)])


@_suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    return torch.empty_like(scores)


def suppression_translation() -> dict[Any, Callable]:
    """Return the translation of this module's operator, see :mod:`vitdet_plugin.export.translations`."""
    from onnxscript import opset18 as op

    def suppress(boxes, scores, iou_threshold: float, limit: int):
        rows = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
        picked = op.NonMaxSuppression(boxes, rows, op.Constant(value_ints=[limit]),
                                      op.Constant(value_float=iou_threshold), op.Constant(value_float=0.0))
        place = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)  # image and box; column 1 is a class
        none = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(none, place, op.GatherND(scores, place))

    return {torch.ops.vitdet_plugin.suppress.default: suppress}
