import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from vitdet_plugin.transforms.clip_polygons import clip_polygons

SIDE, ZOOM, MARGIN = 48, 8, 60


def _rasterize(points):
    """Pixels of a polygon at ZOOM times the resolution, cut to the square [0, SIDE]."""
    canvas = (SIDE + 2 * MARGIN) * ZOOM
    rle = mask_utils.merge(mask_utils.frPyObjects([((points + MARGIN) * ZOOM).ravel().tolist()], canvas, canvas))
    inner = slice(MARGIN * ZOOM, (MARGIN + SIDE) * ZOOM)
    return mask_utils.decode(rle)[inner, inner]


@st.composite
def polygon_sets(draw):
    """Random vertices at integer and fractional positions; polygons may intersect themselves."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = np.array(draw(st.lists(st.integers(3, 12), min_size=1, max_size=4)))
    return rng.uniform(-MARGIN + 20, SIDE + 40, (counts.sum(), 2)).round(draw(st.integers(0, 3))), counts


@settings(max_examples=60)
@given(polygon_sets())
def test_clipped_polygon_covers_the_same_pixels(polygons):
    points, counts = polygons
    clipped, _ = clip_polygons(points, counts, SIDE, SIDE)
    for before, after in zip(np.split(points, np.cumsum(counts)[:-1]), clipped):
        expected = _rasterize(before)
        found = _rasterize(after) if len(after) else np.zeros_like(expected)
        # Rounding of vertices moves borders by up to one pixel of the finer grid.
        assert (expected != found).sum() <= 0.6 * ZOOM * SIDE
        assert not len(after) or (after.min() >= 0 and after.max() <= SIDE)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(4, 20))
def test_box_equals_that_of_the_exact_intersection(seed, count):
    rng = np.random.default_rng(seed)
    angle = (np.arange(count) + rng.uniform(0, 0.9, count)) / count * 2 * np.pi  # increasing: a simple polygon
    rays = np.stack([np.cos(angle), np.sin(angle)], 1)
    star = rng.uniform(-20, SIDE + 20, 2) + rng.uniform(2, 50, (count, 1)) * rays
    exact = shapely.Polygon(star) & shapely.box(0, 0, SIDE, SIDE)
    _, boxes = clip_polygons(star, np.array([count]), SIDE, SIDE)
    expected = exact.bounds if exact.area > 0 else np.zeros(4)
    if not 0 < exact.area < 1e-9:
        np.testing.assert_allclose(boxes[0], expected, atol=1e-6)


def test_polygon_around_an_outside_corner_does_not_extend_the_box():
    # Enters through the left side and passes around the corner (0, 0) outside.
    bracket = np.array([[5, 30], [5, 40], [-10, 40], [-10, -20], [30, -20], [30, -10], [-5, -10], [-5, 30]], float)
    _, boxes = clip_polygons(bracket, np.array([8]), SIDE, SIDE)
    np.testing.assert_array_equal(boxes[0], [0, 30, 5, 40])


def test_polygon_around_everything_becomes_the_rectangle():
    clipped, boxes = clip_polygons(np.array([[-9, -9], [99, -9], [99, 99], [-9, 99]], float), np.array([4]), SIDE, 20)
    np.testing.assert_array_equal(boxes[0], [0, 0, SIDE, 20])
    assert shapely.Polygon(clipped[0]).area == SIDE * 20


@pytest.mark.parametrize('points', [
    [[60, 60], [70, 60], [70, 70]],  # outside
    [[-5, 0], [0, 0], [0, 9], [-5, 9]],  # touches with a side
    [[-5, 5], [0, 7], [-5, 9]],  # touches with a vertex
    [[3, 3], [3, 3], [3, 3]],  # a point
    [[3, 3]],  # a single vertex
])
def test_polygons_without_area_inside_become_empty(points):
    clipped, boxes = clip_polygons(np.array(points, float), np.array([len(points)]), SIDE, SIDE)
    assert len(clipped[0]) == 0
    np.testing.assert_array_equal(boxes, np.zeros((1, 4)))


def test_order_of_polygons_inside_cut_and_outside_is_kept():
    inside, cut, outside = [[1, 1], [5, 1], [5, 5]], [[40, 0], [60, 0], [60, 9], [40, 9]], [[90, 0], [95, 0], [95, 9]]
    points = np.array(outside + inside + cut + outside, float)
    clipped, boxes = clip_polygons(points, np.array([3, 3, 4, 3]), SIDE, SIDE)
    assert [len(polygon) for polygon in clipped] == [0, 3, 4, 0]
    np.testing.assert_array_equal(clipped[1], inside)
    np.testing.assert_array_equal(boxes[2], [40, 0, SIDE, 9])


def test_no_polygons():
    clipped, boxes = clip_polygons(np.zeros((0, 2)), np.zeros(0, int), SIDE, SIDE)
    assert clipped == []
    assert boxes.shape == (0, 4)
