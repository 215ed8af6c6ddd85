"""Masks of boxes pasted into images, as a part of an exported graph."""

from __future__ import annotations

import torch
from torch import Tensor


def paste(masks: Tensor, boxes: Tensor, image_hw: tuple[int, int], threshold: float) -> Tensor:
    """Resize masks to their boxes (bilinear), as mmdet does, and compare them with a threshold.

    The interpolation of an axis does not depend on the other, so it is two products of matrices.

    Args:
        masks: Probabilities over each box, ``(n, m, m)``.
        boxes: ``(n, 4)``, x1, y1, x2, y2 in pixels.
        image_hw: Height and width of the images in pixels.
        threshold: Probability from which a pixel belongs to the object.

    Returns:
        0 or 1, uint8, ``(n, H, W)``.
    """
    x1, y1, x2, y2 = boxes.unbind(1)
    rows = _weights(y1, y2, masks.shape[1], image_hw[0])
    columns = _weights(x1, x2, masks.shape[2], image_hw[1])
    pasted = rows @ masks @ columns.transpose(1, 2)
    filled = ((x2 > x1) & (y2 > y1))[..., None, None]
    return ((pasted >= threshold) & filled).to(torch.uint8)


def _weights(start: Tensor, end: Tensor, cells: int, length: int) -> Tensor:
    """Return the weights ``(n, length, cells)`` of the cells of an interval ``(n,)`` at each pixel."""
    centers = torch.arange(length, device=start.device).to(start) + 0.5
    extent = (end - start).clamp(min=1e-6)[..., None]
    position = (centers - start[..., None]) / extent * cells - 0.5
    return (1 - (position[..., None] - torch.arange(cells, device=start.device).to(start)).abs()).clamp(min=0)
