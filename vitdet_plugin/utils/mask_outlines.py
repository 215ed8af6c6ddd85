"""Outlines of binary masks as polygons along the edges of the pixels."""

import cv2
import numpy as np


def mask_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return polygons that enclose exactly the pixels of a mask.

    Each 8-connected component becomes one polygon. A hole is joined to the outline above it by two coincident vertical
    edges, which enclose nothing, so that pycocotools rasterizes the polygons to the same mask.

    Args:
        mask: (H, W) array; pixels other than 0 belong to the object.

    Returns:
        Polygons as flat float64 arrays x1, y1, x2, y2, ... in pixels, where pixel (0, 0) covers [0, 1] x [0, 1]; none
        for an empty mask.
    """
    mask = np.ascontiguousarray(mask != 0, dtype=np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    mask = mask[top:top + height, left:left + width]
    if not mask.size:
        return []
    # OpenCV traces the centers of pixels; at twice the size, each one belongs to one corner of the original pixels.
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [(contour[:, 0] + 1) // 2 for contour in contours]
    parents = hierarchy[0, :, 3]
    polygons = []
    for index in np.flatnonzero(parents < 0):
        holes = [rings[hole] for hole in np.flatnonzero(parents == index)]
        ring = rings[index]
        for hole in sorted(holes, key=lambda points: points[:, 1].min()):
            ring = _join(ring, hole, mask)
        polygons.append((_corners(ring) + (left, top)).astype(np.float64).reshape(-1))
    return polygons


def _join(ring: np.ndarray, hole: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Insert a hole (M, 2) into a ring (N, 2), from the top of the hole upwards through the object."""
    start = np.lexsort((hole[:, 0], hole[:, 1]))[0]
    x, y = hole[start]
    gaps = np.flatnonzero(mask[:y, x] == 0)
    end = gaps[-1] + 1 if len(gaps) else 0
    at = np.flatnonzero((ring == (x, end)).all(1))[0]
    return np.concatenate([ring[:at + 1], hole[start:], hole[:start + 1], ring[at:]])


def _corners(ring: np.ndarray) -> np.ndarray:
    """Return the points of a closed ring (N, 2) where its direction changes."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    reverses = (before * after).sum(1) < 0
    return ring[turns | reverses]
