"""Outlines of masks enclose exactly their pixels, as pycocotools rasterizes them."""

import cv2
import numpy as np
import pytest

from vitdet_plugin.utils.mask_outlines import mask_outlines

operations = pytest.importorskip('pycocotools.mask')


def rasterize(polygons, shape):
    rles = operations.frPyObjects([polygon.tolist() for polygon in polygons], *shape)
    return operations.decode(operations.merge(rles))


def random_masks():
    rng = np.random.default_rng(0)
    for number in range(120):
        shape = tuple(int(side) for side in rng.integers(1, 48, 2))
        values = rng.random(shape).astype(np.float32)
        yield cv2.GaussianBlur(values, (0, 0), 2) > 0.5 if number % 2 else values < rng.uniform(0.1, 0.95)


def test_random_masks_with_holes_and_many_parts():
    for mask in random_masks():
        polygons = mask_outlines(mask)
        assert bool(polygons) == mask.any()
        if polygons:
            assert np.array_equal(rasterize(polygons, mask.shape), mask)


def test_nested_rings():
    y, x = np.mgrid[:60, :70]
    radius = np.hypot(y - 30, x - 33)
    mask = (radius < 28) & (radius > 20) | (radius < 14) & (radius > 6) | (radius < 3)
    polygons = mask_outlines(mask)
    assert len(polygons) == 3 and np.array_equal(rasterize(polygons, mask.shape), mask)


def test_a_rectangle_has_its_corners_and_an_empty_mask_nothing():
    mask = np.zeros((9, 8), np.uint8)
    assert mask_outlines(mask) == []
    mask[2:5, 3:8] = 1
    (polygon,) = mask_outlines(mask)
    assert {tuple(point) for point in polygon.reshape(-1, 2)} == {(3, 2), (3, 5), (8, 5), (8, 2)} and len(polygon) == 8
