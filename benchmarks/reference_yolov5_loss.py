"""Reference for YOLOv5's loss: loops over images, objects, anchors and cells, with a CIoU of single boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = ((0, 0), (-1, 0), (0, -1), (1, 0), (0, 1))  # own cell, left, above, right, below


def loss_parts_by_loops(preds: Sequence[Tensor], targets: Tensor, anchors: Sequence, strides: Sequence[int],
                        balance: Sequence[float]) -> list[Tensor]:
    """Box, objectness and class loss of (B, A, H, W, 5 + K) logits, without gains.

    ``targets`` (n, 6): image, label, center x, center y, width, height in pixels.
    """
    parts = [torch.zeros(()) for _ in range(3)]
    for pred, sizes, stride, weight in zip(preds, anchors, strides, balance):
        objectness, boxes, classes = torch.zeros_like(pred[..., 4]), [], []
        for image in range(len(pred)):
            own = [target for target in targets.tolist() if target[0] == image]
            for dx, dy in SIDES:
                for a, anchor in enumerate(sizes):
                    for _, label, x, y, w, h in own:
                        cell = _cell(x / stride, y / stride, dx, dy, pred.shape[3], pred.shape[2])
                        if cell is None or not _fits(w, h, anchor):
                            continue
                        column, row = cell
                        logits = pred[image, a, row, column]
                        squashed = 2 * logits[:4].sigmoid()
                        size = squashed[2:].square() * torch.tensor(anchor) / stride
                        box = torch.cat((squashed[:2] - 0.5, size))
                        expected = torch.tensor([x / stride - column, y / stride - row, w / stride, h / stride])
                        boxes.append(_complete_iou(box, expected))
                        objectness[image, a, row, column] = boxes[-1].detach().clamp(min=0)
                        target = F.one_hot(torch.tensor(int(label)), len(logits) - 5).float()
                        classes.append(F.binary_cross_entropy_with_logits(logits[5:], target))
        if boxes:
            parts[0] = parts[0] + (1 - torch.stack(boxes)).mean()
            parts[2] = parts[2] + torch.stack(classes).mean()
        parts[1] = parts[1] + weight * F.binary_cross_entropy_with_logits(pred[..., 4], objectness)
    return parts


def _complete_iou(box: Tensor, target: Tensor) -> Tensor:
    """CIoU of two boxes (center x, center y, width, height); arXiv 1911.08287, equations 9 to 11.

    alpha = v / (v - IoU + 1) at any IoU, and no gradient flows through it.
    """
    x, y, w, h = box.unbind()
    tx, ty, tw, th = target.unbind()
    overlap, hull = [], []
    for center, length, other_center, other_length in ((x, w, tx, tw), (y, h, ty, th)):
        ends = torch.stack([center + length / 2, other_center + other_length / 2])
        starts = torch.stack([center - length / 2, other_center - other_length / 2])
        overlap.append(F.relu(ends.amin() - starts.amax()))
        hull.append(ends.amax() - starts.amin())
    shared = overlap[0] * overlap[1]
    iou = shared / (w * h + tw * th - shared)
    distance = ((x - tx) ** 2 + (y - ty) ** 2) / (hull[0] ** 2 + hull[1] ** 2)
    v = 4 / math.pi ** 2 * (torch.atan(tw / th) - torch.atan(w / h)) ** 2
    alpha = (v / (1 - iou + v)).detach()
    return iou - distance - alpha * v


def _fits(width: float, height: float, anchor: tuple[float, float], max_ratio: float = 4.0) -> bool:
    ratios = width / anchor[0], height / anchor[1]
    return max(*ratios, *(1 / ratio for ratio in ratios)) < max_ratio


def _cell(x: float, y: float, dx: int, dy: int, columns: int, rows: int) -> tuple[int, int] | None:
    """Return column and row of the neighbor in this direction; None if the center is not near it."""
    near = {(0, 0): True, (-1, 0): x % 1 < 0.5 and x > 1, (0, -1): y % 1 < 0.5 and y > 1,
            (1, 0): (columns - x) % 1 < 0.5 and columns - x > 1, (0, 1): (rows - y) % 1 < 0.5 and rows - y > 1}
    if not near[dx, dy]:
        return None
    return min(int(x + dx / 2), columns - 1), min(int(y + dy / 2), rows - 1)
