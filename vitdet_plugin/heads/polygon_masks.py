"""Polygons drawn inside boxes, many at once, pixel for pixel as pycocotools draws them one by one.

pycocotools rounds vertices to a grid of 1/5 pixel, steps along each edge by one cell of it, and marks in each column of
pixels where the outline crosses the middle of the column. The pixels below an odd number of marks are inside. Only the
steps at those crossings are computed here, for all edges of all polygons together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_GRID = 5  # cells of a pixel
_MIDDLE = 2  # cell before the middle of a pixel


def draw_in_boxes(objects: Sequence[Sequence[np.ndarray]], indices: np.ndarray, boxes: np.ndarray, height: int,
                  width: int, smallest_side: float) -> np.ndarray:
    """Draw one object inside each box.

    Args:
        objects: Polygons of each object, x y x y ... in pixels. Parts of an object may overlap.
        indices: (n,), the object of each box.
        boxes: (n, 4), x1 y1 x2 y2 in pixels; float32, in which the scales are computed.
        height, width: Size of the result in pixels.
        smallest_side: Boxes are scaled as if their sides were at least this long, in pixels.

    Returns:
        (n, height, width) uint8: 1 inside the object.
    """
    used, index = np.unique(indices, return_inverse=True)
    parts = [part for i in used for part in objects[i]]
    if not parts:
        return np.zeros((len(boxes), height, width), np.uint8)
    number_of_parts = np.array([len(objects[i]) for i in used])
    points = np.concatenate(parts).astype(np.float64, copy=False).reshape(-1, 2)
    lengths = np.array([len(part) // 2 for part in parts])

    # every part of every box: a row
    rows_of_box = number_of_parts[index]
    part_of_row = _ranges((np.cumsum(number_of_parts) - number_of_parts)[index], rows_of_box)
    length = lengths[part_of_row]
    point = _ranges((np.cumsum(lengths) - lengths)[part_of_row], length)
    scales = np.array([width, height], np.float32) / np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(smallest_side))
    x, y = (_on_grid(points[:, axis][point], *(np.repeat(np.repeat(each[:, axis], rows_of_box), length)
                                               for each in (boxes, scales))) for axis in (0, 1))
    drawn = _fill(x, y, length, height, width)
    return drawn if (rows_of_box == 1).all() else _union(drawn, rows_of_box)


def _on_grid(values: np.ndarray, start: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Coordinates of pixels inside a box as cells of the grid, rounded as a conversion to an integer in C."""
    cells: np.ndarray = np.trunc(_GRID * ((values - start) * scale) + 0.5)
    return cells


def _fill(x: np.ndarray, y: np.ndarray, length: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill polygons.

    Args:
        x, y: (N,), vertices of all polygons in cells of the grid.
        length: (P,), number of vertices of each polygon.
        height, width: Size of the result in pixels.

    Returns:
        (P, height, width) uint8.
    """
    following = np.arange(1, len(x) + 1)
    last = np.cumsum(length)[length > 0] - 1
    following[last] -= length[length > 0]
    # columns of pixels whose middle an edge crosses: from cell 5 x + 2 to cell 5 x + 3
    next_x = x[following]
    first = np.maximum(np.ceil((np.minimum(x, next_x) - _MIDDLE) / _GRID), 0)
    count = np.minimum(np.floor((np.maximum(x, next_x) - _MIDDLE - 1) / _GRID), width - 1) - first + 1
    edge = np.flatnonzero(count > 0)
    is_flat = np.abs(next_x[edge] - x[edge]) >= np.abs(y[following[edge]] - y[edge])
    flat, steep = edge[is_flat], edge[~is_flat]
    # along its longer side, an edge is walked in the direction in which the coordinate grows
    backward = x[flat] > next_x[flat]
    flat_from, flat_to = np.where(backward, following[flat], flat), np.where(backward, flat, following[flat])
    backward = y[steep] > y[following[steep]]
    steep_from, steep_to = np.where(backward, following[steep], steep), np.where(backward, steep, following[steep])

    edge = np.concatenate([flat, steep])
    count = count[edge].astype(np.int64)
    column = _ranges(first[edge].astype(np.int64), count)
    cell, flat_crossings = _GRID * column + _MIDDLE, int(count[:len(flat)].sum())
    crossing = np.concatenate([
        _crossing_of_flat(cell[:flat_crossings], count[:len(flat)], x[flat_from], y[flat_from],
                          x[flat_to] - x[flat_from], y[flat_to] - y[flat_from]),
        _crossing_of_steep(cell[flat_crossings:], count[len(flat):], x[steep_from], y[steep_from],
                           x[steep_to] - x[steep_from], y[steep_to] - y[steep_from])])
    mark = np.clip((crossing.astype(np.int64) + _MIDDLE) // _GRID, 0, height)
    polygon = np.repeat(np.repeat(np.arange(len(length)), length)[edge], count)
    slots = (mark * len(length) + polygon) * width + column
    size = (height + 1, len(length), width)  # the last row is below the image
    marks = (np.bincount(slots, minlength=math.prod(size)) & 1).astype(np.uint8).reshape(size)
    for above, below in zip(marks, marks[1:height]):
        below ^= above
    return np.ascontiguousarray(marks[:height].transpose(1, 0, 2))


def _crossing_of_flat(cell: np.ndarray, count: np.ndarray, x: np.ndarray, y: np.ndarray, change_x: np.ndarray,
                      change_y: np.ndarray) -> np.ndarray:
    """Upper cells of the two steps around the middles of columns, of edges that are wider than high.

    Args:
        cell: (C,), the cells before the middles.
        count: (E,), how many of them each edge crosses.
        x, y, change_x, change_y: (E,), start of the edges and the way to their ends.
    """
    slope = change_y / change_x
    step = cell - np.repeat(x - (slope < 0), count)
    return np.trunc(np.repeat(y, count) + np.repeat(slope, count) * step + 0.5)


def _crossing_of_steep(cell: np.ndarray, count: np.ndarray, x: np.ndarray, y: np.ndarray, change_x: np.ndarray,
                       change_y: np.ndarray) -> np.ndarray:
    """Cells of the last steps before the middles of columns, of edges that are higher than wide."""
    slope = change_x / change_y
    rises, slope, x = np.repeat(slope > 0, count), np.repeat(slope, count), np.repeat(x, count)

    def is_beyond(step: np.ndarray) -> np.ndarray:
        return (x + slope * step + 0.5 >= cell + 1) == rises

    step = np.ceil((cell + 0.5 - x) / slope)
    # the quotient is rounded; the steps next to it decide
    step += ~is_beyond(step)
    step -= is_beyond(step - 1)
    return np.repeat(y, count) + step - 1


def _union(drawn: np.ndarray, rows_of_box: np.ndarray) -> np.ndarray:
    """Unite the parts of each box."""
    result = np.zeros((len(rows_of_box), *drawn.shape[1:]), np.uint8)
    first = np.cumsum(rows_of_box) - rows_of_box
    for part in range(int(rows_of_box.max(initial=0))):
        boxes = np.flatnonzero(rows_of_box > part)
        result[boxes] |= drawn[first[boxes] + part]
    return result


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``start, start + 1, ...`` of each count, one after another."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
