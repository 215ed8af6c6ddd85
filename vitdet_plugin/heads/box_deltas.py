"""mmdet's ``DeltaXYWHBBoxCoder`` for boxes of several images; its constants are not copied to the GPU in each call."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from torch import Tensor

from vitdet_plugin.heads.transfers import constant

_LARGEST_SCALE = float(np.abs(np.log(16 / 1000)))  # of width and height, as a logarithm; mmdet's wh_ratio_clip


def is_served(coder: Any) -> bool:
    """Whether these functions are those of the coder."""
    return type(coder) is DeltaXYWHBBoxCoder and not coder.use_box_type and not coder.add_ctr_clamp


def encode(coder: DeltaXYWHBBoxCoder, boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the deltas (..., 4) from ``boxes`` (..., 4) to ``targets`` (..., 4), x1 y1 x2 y2 in pixels."""
    boxes, targets = boxes.float(), targets.float()
    size, target_size = boxes[..., 2:] - boxes[..., :2], targets[..., 2:] - targets[..., :2]
    center, target_center = (boxes[..., :2] + boxes[..., 2:]) * 0.5, (targets[..., :2] + targets[..., 2:]) * 0.5
    deltas = torch.cat([(target_center - center) / size, torch.log(target_size / size)], -1)
    means, stds = (constant(tuple(each), deltas.dtype, deltas.device) for each in (coder.means, coder.stds))
    return (deltas - means) / stds


def decode(coder: DeltaXYWHBBoxCoder, boxes: Tensor, deltas: Tensor, limits: Tensor | None = None) -> Tensor:
    """Return the boxes (..., 4) that ``deltas`` (..., 4) describe.

    Args:
        coder: Its means, standard deviations and ``clip_border`` are used.
        boxes: (..., 4), x1 y1 x2 y2 in pixels.
        deltas: (..., 4).
        limits: Width and height of each image, of a shape that is broadcast to (..., 2); boxes may be outside without.
    """
    means, stds = (constant(tuple(each), deltas.dtype, deltas.device) for each in (coder.means, coder.stds))
    deltas = deltas * stds + means
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) * 0.5 + size * deltas[..., :2]
    half = size * F.hardtanh(deltas[..., 2:], -_LARGEST_SCALE, _LARGEST_SCALE).exp() * 0.5
    corners = [center - half, center + half]
    if limits is not None and coder.clip_border:
        corners = [torch.minimum(corner.clamp(min=0), limits) for corner in corners]
    return torch.cat(corners, -1)
