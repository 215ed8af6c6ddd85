"""Masks as polygons, for file formats that have one polygon for each object or part."""

import cv2
import numpy as np

from vitdet_plugin.utils.mask_outlines import mask_outlines

_TOLERANCE = 0.5  # pixels by which a simplified outline may differ


def one_polygon(mask: np.ndarray) -> np.ndarray:
    """Return one polygon (M, 2) of x, y in pixels that encloses exactly the pixels of a mask; empty without pixels.

    Separate parts are joined by two coincident edges, which enclose nothing.
    """
    parts = [outline.reshape(-1, 2) for outline in mask_outlines(mask)]
    if len(parts) < 2:
        return parts[0] if parts else np.zeros((0, 2))
    start = parts[0][:1]
    joined = [np.concatenate([part, part[:1], start]) for part in parts[1:]]
    return np.concatenate([parts[0], start, *joined])[:-1]


def simple_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Return a polygon (M, 2) for each part of a mask, with fewer points, to be edited by hand.

    Outlines are within half a pixel of the edges of the pixels. Holes are joined to the outline above them.
    """
    polygons = []
    for outline in mask_outlines(mask):
        points = outline.reshape(-1, 2)
        simple = cv2.approxPolyDP(points.astype(np.float32)[:, None], _TOLERANCE, True)[:, 0]
        is_simple = len(np.unique(points, axis=0)) == len(points)  # a joined hole repeats points
        polygons.append(simple.astype(np.float64) if is_simple and len(simple) >= 3 else points)
    return polygons
