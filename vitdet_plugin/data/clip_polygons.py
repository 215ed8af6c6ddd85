"""Clips many polygons to a rectangle at once, with NumPy, and finds the exact box of what is left.

Self-intersecting polygons, which annotation files do contain, are clipped as they are; libraries that repair them
first lose parts of them.
"""

import numpy as np


def clip_polygons(points: np.ndarray, counts: np.ndarray, width: float, height: float
                  ) -> tuple[list[np.ndarray], np.ndarray]:
    """Clips polygons to [0, width] x [0, height].

    A polygon that is cut in two stays one closed line, whose parts are joined along the rectangle's border
    (Sutherland-Hodgman): it encloses the same area and rasterises to the same mask. The boxes do not see those joints.

    Args:
        points: (N, 2) float vertices of all polygons, one polygon after the other.
        counts: (P,) number of vertices of each, at least 1.
        width, height: far corner of the rectangle.

    Returns:
        P arrays (n, 2) and the boxes (P, 4) as x1, y1, x2, y2 of the clipped polygons. What lies outside, or only
        touches the rectangle, has no vertices and a box of zeros.
    """
    if not len(counts):
        return [], np.zeros((0, 4))
    starts = np.cumsum(counts) - counts
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    limits = np.array([width, height], dtype=np.float64)
    boxes = np.concatenate([low, high], 1)
    whole = ((low >= 0) & (high <= limits)).all(1)
    crossing = np.flatnonzero(~whole & ((low < limits) & (high > 0)).all(1))
    polygons = np.split(points, starts[1:])
    cut = {}
    if len(crossing):
        loose = np.concatenate([polygons[index] for index in crossing])
        parts, boxes[crossing] = _clip(loose, counts[crossing], limits)
        cut = dict(zip(crossing.tolist(), parts))
    nonempty = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    nonempty[~whole] &= np.isin(np.flatnonzero(~whole), crossing)
    boxes[~nonempty] = 0
    none = np.zeros((0, 2))
    return [cut.get(index, polygon) if nonempty[index] else none for index, polygon in enumerate(polygons)], boxes


def _clip(points: np.ndarray, counts: np.ndarray, limits: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    boxes = _boxes_inside(points, counts, limits)
    owner = np.repeat(np.arange(len(counts)), counts)
    for axis, limit, sign in ((0, 0, 1), (0, limits[0], -1), (1, 0, 1), (1, limits[1], -1)):
        distance = (points[:, axis] - limit) * sign
        if (distance < 0).any():
            points, owner = _clip_half_plane(points, owner, distance)
            points[:, axis] = np.maximum(points[:, axis] * sign, limit * sign) * sign  # rounding must not leave it
    ends = np.cumsum(np.bincount(owner, minlength=len(counts)))
    return np.split(points, ends[:-1]), boxes


def _following(owner: np.ndarray) -> np.ndarray:
    """(N,) index of the next vertex of the same polygon."""
    following = np.arange(1, len(owner) + 1)
    last = np.flatnonzero(np.diff(owner, append=-1))
    following[last] = np.concatenate([[0], last[:-1] + 1])
    return following


def _clip_half_plane(points: np.ndarray, owner: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keeps the side where ``distance`` (N,), signed, is not negative: each vertex inside, then each crossing."""
    following = _following(owner)
    inside = distance >= 0
    crosses = inside != inside[following]
    gap = np.where(crosses, distance - distance[following], 1)
    crossing = points + (distance / gap)[:, None] * (points[following] - points)
    keep = np.stack([inside, crosses], 1)
    return np.stack([points, crossing], 1)[keep], np.repeat(owner, 2).reshape(-1, 2)[keep]


def _boxes_inside(points: np.ndarray, counts: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(P, 4) boxes of polygon and rectangle intersected: from the edges inside and the corners enclosed."""
    owner = np.repeat(np.arange(len(counts)), counts)
    start, end = points, points[_following(owner)]
    step = end - start
    # The part [enter, leave] of each edge that lies within the rectangle (Liang-Barsky).
    flat = step == 0
    safe = np.where(flat, 1, step)
    near, far = -start / safe, (limits - start) / safe
    outside = flat & ((start < 0) | (start > limits))
    enter = np.where(flat, np.where(outside, np.inf, 0), np.minimum(near, far)).max(1).clip(min=0)
    leave = np.where(flat, 1, np.maximum(near, far)).min(1).clip(max=1)
    visible = (enter <= leave)[:, None]
    # inf * 0 of invisible edges is not used
    enter, leave = np.where(visible, enter[:, None], 0), np.where(visible, leave[:, None], 0)
    first, second = (start + enter * step).clip(0, limits), (start + leave * step).clip(0, limits)
    starts = np.cumsum(counts) - counts
    low = np.minimum.reduceat(np.where(visible, np.minimum(first, second), np.inf), starts)
    high = np.maximum.reduceat(np.where(visible, np.maximum(first, second), -np.inf), starts)
    for corner in limits * [[0, 0], [1, 0], [0, 1], [1, 1]]:
        enclosed = _encloses(start, end, starts, corner)[:, None]
        low = np.where(enclosed, np.minimum(low, corner), low)
        high = np.where(enclosed, np.maximum(high, corner), high)
    return np.concatenate([low, high], 1)


def _encloses(start: np.ndarray, end: np.ndarray, starts: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """(P,) whether each polygon encloses a point, by the parity of the edges to its right."""
    above = start[:, 1] > corner[1]
    spans = above != (end[:, 1] > corner[1])
    slope = (end[:, 0] - start[:, 0]) / np.where(spans, end[:, 1] - start[:, 1], 1)
    right = spans & (start[:, 0] + (corner[1] - start[:, 1]) * slope > corner[0])
    return np.logical_xor.reduceat(right, starts)
