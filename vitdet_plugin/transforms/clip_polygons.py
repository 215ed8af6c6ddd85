"""Clip many polygons to a rectangle at once with NumPy, and compute the exact boxes of the results.

Self-intersecting polygons, which occur in annotation files, are clipped without repair; libraries that repair them
first lose parts of them.
"""

import numpy as np

_CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])


def clip_polygons(points: np.ndarray, counts: np.ndarray, width: float, height: float
                  ) -> tuple[list[np.ndarray], np.ndarray]:
    """Clip polygons to [0, width] x [0, height].

    A polygon that is cut in two stays one closed line, whose parts are joined along the border of the rectangle
    (Sutherland-Hodgman): it encloses the same area and rasterizes to the same mask. The boxes do not include those
    joints.

    Args:
        points: (N, 2) float vertices (x, y) of all polygons in pixels, one polygon after the other.
        counts: (P,) number of vertices of each polygon, at least 1.
        width: Width of the rectangle in pixels.
        height: Height of the rectangle in pixels.

    Returns:
        P arrays (n, 2) and the boxes (P, 4) as x1, y1, x2, y2 of the clipped polygons. A polygon outside the rectangle,
        or one that only touches it, has no vertices and a box of zeros.
    """
    if not len(counts):
        return [], np.zeros((0, 4))
    ends = np.cumsum(counts)
    starts = ends - counts
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    limits = np.array([width, height], dtype=np.float64)
    polygons = _split_polygons(points, ends)
    boxes = np.concatenate([low, high], 1)
    overlaps = ((low < limits) & (high > 0) & (low < high)).all(1)
    if not overlaps.all():
        boxes[~overlaps] = 0
        polygons = [polygon if overlap else polygon[:0] for polygon, overlap in zip(polygons, overlaps.tolist())]
    crossing = np.flatnonzero(overlaps & ((low < 0) | (high > limits)).any(1))
    if len(crossing):
        parts, boxes[crossing] = _clip([polygons[index] for index in crossing], limits)
        for index, part in zip(crossing.tolist(), parts):
            polygons[index] = part
    return polygons, boxes


def _split_polygons(points: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    ends = ends.tolist()
    return [points[start:end] for start, end in zip([0, *ends[:-1]], ends)]


def _clip(polygons: list[np.ndarray], limits: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    points = np.concatenate(polygons)
    owner = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    for axis, limit, sign in ((0, 0, 1), (0, limits[0], -1), (1, 0, 1), (1, limits[1], -1)):
        distance = (points[:, axis] - limit) * sign
        if len(distance) and distance.min() < 0:
            points, owner = _clip_half_plane(points, owner, distance)
            points[:, axis] = np.maximum(points[:, axis] * sign, limit * sign) * sign  # after rounding errors
    counts = np.bincount(owner, minlength=len(polygons))
    remaining = np.flatnonzero(counts)
    boxes = np.zeros((len(polygons), 4))
    if len(remaining):
        starts = (np.cumsum(counts) - counts)[remaining]
        boxes[remaining, :2] = np.minimum.reduceat(points, starts)
        boxes[remaining, 2:] = np.maximum.reduceat(points, starts)
    # A joint along one side lies between points of the polygon; only one around a corner can extend the box.
    at_corner = ((points == 0) | (points == limits)).all(1)
    for index in set(owner[at_corner].tolist()):
        boxes[index] = _box_inside(polygons[index], limits)
    is_empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    boxes[is_empty] = 0
    parts = _split_polygons(points, np.cumsum(counts))
    return [part[:0] if empty else part for part, empty in zip(parts, is_empty.tolist())], boxes


def _clip_half_plane(points: np.ndarray, owner: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the vertices on one side of a line and add the points where edges cross it.

    Args:
        points: (N, 2) vertices of all polygons.
        owner: (N,) number of the polygon of each vertex, in order.
        distance: (N,) signed distance of each vertex from the line; not negative on the side to keep.

    Returns:
        (M, 2) vertices and (M,) polygon numbers.
    """
    count = len(owner)
    last = np.flatnonzero(owner[1:] != owner[:-1])
    following = np.arange(1, count + 1)
    following[-1] = last[-1] + 1 if len(last) else 0
    following[last[1:]] = last[:-1] + 1
    following[last[:1]] = 0
    inside = distance >= 0
    crosses = inside != inside[following]
    gap = np.where(crosses, distance - distance[following], 1)
    pairs, keep = np.empty((count, 2, 2)), np.empty((count, 2), bool)
    pairs[:, 0], keep[:, 0] = points, inside
    pairs[:, 1], keep[:, 1] = points + (distance / gap)[:, None] * (points[following] - points), crosses
    return pairs[keep], np.repeat(owner, 2)[keep.ravel()]


def _box_inside(points: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return the (4,) box of the intersection of a polygon and the rectangle, from edges inside and enclosed corners.
    """
    step = np.concatenate([points[1:], points[:1]]) - points
    # The part [enter, leave] of each edge that lies within the rectangle (Liang-Barsky).
    flat = step == 0
    safe = np.where(flat, 1, step)
    near, far = -points / safe, (limits - points) / safe
    outside = flat & ((points < 0) | (points > limits))
    enter = np.where(flat, np.where(outside, np.inf, 0), np.minimum(near, far)).max(1).clip(min=0)
    leave = np.where(flat, 1, np.maximum(near, far)).min(1).clip(max=1)
    visible = enter <= leave
    ends = [points[visible] + share[visible, None] * step[visible] for share in (enter, leave)]
    corners = limits * _CORNERS
    inside = np.concatenate([*ends, corners[_enclosed(points, step, corners)]]).clip(0, limits)
    return np.concatenate([inside.min(0), inside.max(0)]) if len(inside) else np.zeros(4)


def _enclosed(points: np.ndarray, step: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return (K,) which of ``corners`` (K, 2) a polygon (n, 2) encloses, by the parity of the edges to their right."""
    (x, y), (step_x, step_y) = points.T[..., None], step.T[..., None]
    above = y > corners[:, 1]
    spans = above != np.concatenate([above[1:], above[:1]])
    slope = step_x / np.where(step_y == 0, 1, step_y)
    return (spans & (x + (corners[:, 1] - y) * slope > corners[:, 0])).sum(0) % 2 == 1
