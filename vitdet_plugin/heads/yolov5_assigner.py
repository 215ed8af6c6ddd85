"""Which cells and anchors answer for which objects (YOLOv5: by shape, with up to two neighbour cells)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOUR = 0.5  # a centre nearer than this to a cell's edge, in cells, also belongs to the cell beyond


class Assigned(NamedTuple):
    """The answers wanted on one level, n of them."""

    image: Tensor  # (n,)
    anchor: Tensor  # (n,)
    row: Tensor  # (n,)
    column: Tensor  # (n,)
    label: Tensor  # (n,)
    box: Tensor  # (n, 4) centre from the cell's corner, width, height; in cells
    anchor_size: Tensor  # (n, 2) in cells


def assign_level(targets: Tensor, anchors: Tensor, shape: tuple[int, int], stride: int,
                 max_ratio: float = 4.0) -> Assigned:
    """Objects of one level, vectorised over images, anchors and neighbours.

    An anchor takes every object whose width and height are both within a factor ``max_ratio`` of its own, on each
    level where one does. The cell that holds the centre answers, and the neighbours that the centre is nearest to,
    horizontally and vertically, unless they are outside the grid. The order is that of the neighbours (own cell, left,
    above, right, below), then anchors, then objects: where two want the same answer, the later one counts. A centre
    exactly on a cell's left or upper edge answers twice in that cell, as in the reference.

    Args:
        targets: (n, 6) image, label, centre x, centre y, width, height, in pixels.
        anchors: (A, 2) in pixels. shape: (rows, columns) of the grid. stride: pixels a cell.
    """
    anchors = anchors.to(targets.dtype) / stride
    boxes = targets[:, 2:] / stride
    ratio = boxes[None, :, 2:] / anchors[:, None]
    fits = torch.maximum(ratio, 1 / ratio).amax(-1) < max_ratio  # (A, n)
    anchor, index = fits.nonzero(as_tuple=True)
    centre = boxes[index, :2]
    grid = centre.new_tensor((shape[1], shape[0]))
    from_far_side = grid - centre
    near_low = (centre % 1 < NEIGHBOUR) & (centre > 1)  # left, above
    near_high = (from_far_side % 1 < NEIGHBOUR) & (from_far_side > 1)  # right, below
    wanted = torch.cat((torch.ones_like(near_low[:, :1]), near_low, near_high), 1).T  # (5, n)
    side, index_of = wanted.nonzero(as_tuple=True)
    offsets = centre.new_tensor([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]) * NEIGHBOUR
    centre, anchor, index = centre[index_of], anchor[index_of], index[index_of]
    cell = (centre - offsets[side]).long()
    cell = torch.minimum(cell.clamp(min=0), grid.long() - 1)  # a centre on the last edge belongs to the last cell
    return Assigned(image=targets[index, 0].long(), anchor=anchor, row=cell[:, 1], column=cell[:, 0],
                    label=targets[index, 1].long(), box=torch.cat((centre - cell, boxes[index, 2:]), 1),
                    anchor_size=anchors[anchor])
