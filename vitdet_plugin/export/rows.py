"""Compute only the rows that hold an object, of tensors whose length does not depend on the images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

_keeps_all: ContextVar[bool] = ContextVar('keeps_all', default=False)


@contextlib.contextmanager
def all_rows() -> Iterator[None]:
    """Capture graphs that compute empty rows, too: a trace cannot have a number of rows that depends on the images."""
    token = _keeps_all.set(True)
    try:
        yield
    finally:
        _keeps_all.reset(token)


def used_rows(scores: Tensor) -> Tensor:
    """Return the indices ``(n,)`` of scores above 0 in ``scores`` ``(B, N)``, counted over the whole batch.

    The first row is always among them, as not every runtime can compute layers of no rows.
    """
    if _keeps_all.get():
        return torch.arange(scores.shape[0] * scores.shape[1], device=scores.device)
    used = scores.flatten() > 0
    rows = torch.cat((torch.ones_like(used[:1]), used[1:])).nonzero()[:, 0]
    torch._check(rows.shape[0] > 0)  # mmdet's coder branches on it
    return rows


def put_rows(values: Tensor, rows: Tensor, batch: int, number: int) -> Tensor:
    """Return values ``(n, ...)`` as a tensor ``(batch, number, ...)`` that is 0 in all other rows."""
    if _keeps_all.get():
        return values.unflatten(0, (batch, number))
    filled = values.new_zeros(batch * number, *values.shape[1:]).index_put((rows,), values)
    return filled.unflatten(0, (batch, number))


def batch_rois(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return the rows ``(n, 5)`` with the index of the image of boxes ``(B, N, 4)``, as RoI extractors take them."""
    images = torch.div(rows, boxes.shape[1], rounding_mode='floor').to(boxes)
    return torch.cat((images[:, None], boxes.flatten(0, 1)[rows]), 1)


def roi_features(extractor: nn.Module, maps: tuple[Tensor, ...], rois: Tensor) -> Tensor:
    """Extract RoI features of each box from the level that the extractor assigns to it.

    Args:
        extractor: ``SingleRoIExtractor`` of mmdet.
        maps: Feature maps of shape ``(B, C, H, W)``.
        rois: Image and box of each row, ``(n, 5)``.

    Returns:
        Features of shape ``(n, C, h, w)``.
    """
    levels = extractor.map_roi_levels(rois, extractor.num_inputs)
    pairs: list[tuple[Any, Tensor]] = list(zip(extractor.roi_layers, maps))
    if len(pairs) == 1:
        return _align(*pairs[0], rois)
    if _keeps_all.get():
        found = _align(*pairs[0], rois)
        for level, pair in enumerate(pairs[1:], 1):
            found = torch.where((levels == level)[:, None, None, None], _align(*pair, rois), found)
        return found
    rows = [(levels == level).nonzero()[:, 0] for level in range(len(pairs))]
    crops = torch.cat([_align(*pair, rois[some]) for pair, some in zip(pairs, rows)])
    order = torch.cat(rows)
    place = torch.arange(order.shape[0], device=order.device)
    return crops[torch.zeros_like(levels).index_put((order,), place)]


def _align(layer: Any, feature: Tensor, rois: Tensor) -> Tensor:
    return torchvision.ops.roi_align(feature, rois, layer.output_size, layer.spatial_scale, layer.sampling_ratio,
                                     layer.aligned)
