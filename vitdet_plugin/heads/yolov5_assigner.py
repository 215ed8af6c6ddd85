"""Assignment of objects to anchors and cells in YOLOv5: by shape, with up to two neighbor cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HALF_CELL = 0.5  # in cells; a center closer than this to an edge is also assigned to the neighbor cell


class Assigned(NamedTuple):
    """The n assignments of one level."""

    image: Tensor  # (n,)
    anchor: Tensor  # (n,)
    row: Tensor  # (n,)
    column: Tensor  # (n,)
    label: Tensor  # (n,)
    box: Tensor  # (n, 4) center relative to the cell's corner, width, height; in cells
    anchor_size: Tensor  # (n, 2) in cells


def assign_level(targets: Tensor, anchors: Tensor, shape: tuple[int, int], stride: int,
                 max_ratio: float = 4.0) -> Assigned:
    """Assign the objects of all images to the anchors and cells of one level.

    An object is assigned to every anchor whose width and height both differ from its own by less than a factor of
    ``max_ratio``. It is assigned to the cell that contains its center and to the closest horizontal and vertical
    neighbors inside the grid. The result is ordered by neighbor (own cell, left, above, right, below), then anchor,
    then object; of several objects with the same anchor and cell, the last one is used. A center exactly on the left or
    upper edge of a cell is assigned to that cell twice, as in the reference.

    Args:
        targets: (n, 6) image, label, center x, center y, width, height, in pixels.
        anchors: (A, 2) in pixels.
        shape: (rows, columns) of the grid.
        stride: Pixels per cell.
        max_ratio: Largest ratio of an object's side to the anchor's.
    """
    anchors = anchors.to(targets.dtype) / stride
    boxes = targets[:, 2:] / stride
    ratio = boxes[None, :, 2:] / anchors[:, None]
    fits = torch.maximum(ratio, 1 / ratio).amax(-1) < max_ratio  # (A, n)
    anchor, index = fits.nonzero(as_tuple=True)
    center = boxes[index, :2]
    grid = center.new_tensor((shape[1], shape[0]))
    from_far_side = grid - center
    near_low = (center % 1 < HALF_CELL) & (center > 1)  # left, above
    near_high = (from_far_side % 1 < HALF_CELL) & (from_far_side > 1)  # right, below
    selected = torch.cat((torch.ones_like(near_low[:, :1]), near_low, near_high), 1).T  # (5, n)
    side, index_of = selected.nonzero(as_tuple=True)
    offsets = center.new_tensor([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]) * HALF_CELL
    center, anchor, index = center[index_of], anchor[index_of], index[index_of]
    cell = (center - offsets[side]).long()
    cell = torch.minimum(cell.clamp(min=0), grid.long() - 1)  # a center on the last edge belongs to the last cell
    return Assigned(image=targets[index, 0].long(), anchor=anchor, row=cell[:, 1], column=cell[:, 0],
                    label=targets[index, 1].long(), box=torch.cat((center - cell, boxes[index, 2:]), 1),
                    anchor_size=anchors[anchor])
