"""Boxes from YOLOv5's raw predictions."""

from __future__ import annotations

import torch
from torch import Tensor


def decode_relative(raw: Tensor, anchors: Tensor) -> Tensor:
    """Decode centers relative to the cell's corner and sizes, in the unit of the anchors.

    xy = 2 sigmoid - 0.5 lies in (-0.5, 1.5), so a center may be half a cell outside. wh = (2 sigmoid) ** 2 anchor lies
    in (0, 4) anchors, the range that the assignment allows.

    Args:
        raw: (..., 4) logits.
        anchors: Sizes in cells, broadcastable to (..., 2).
    """
    squashed = 2 * raw.sigmoid()
    return torch.cat((squashed[..., :2] - 0.5, squashed[..., 2:].square() * anchors), -1)


def decode_map(raw: Tensor, anchors: Tensor, stride: int) -> Tensor:
    """Decode the boxes of one level to centers and sizes in pixels, (B, A, H, W, 4).

    Args:
        raw: (B, A, H, W, 4) logits.
        anchors: (A, 2) in pixels.
        stride: Pixels per cell.
    """
    rows, columns = raw.shape[2:4]
    y, x = torch.meshgrid(torch.arange(rows, device=raw.device), torch.arange(columns, device=raw.device),
                          indexing='ij')
    boxes = decode_relative(raw, anchors[:, None, None].to(raw.dtype) / stride)
    corner = torch.stack((x, y), -1).to(raw.dtype)
    return torch.cat((boxes[..., :2] + corner, boxes[..., 2:]), -1) * stride
