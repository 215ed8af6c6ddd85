"""Geometry of shapes and RLE of parts of images."""

import numpy as np
import pytest

from tests.datasets.formats.known_pixels import DONUT, SIZE, draw, iou, pixels_of
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.mask_rle import crop_rle, polygon_rle, unite


@pytest.mark.parametrize('at', [(30, 20), (0, 0), (-5, -7), (150, 120), (500, 500), (-100, 3)])
def test_rle_of_a_part_equals_that_of_the_whole(at):
    part = DONUT[20:100, 30:120]
    expected = np.zeros((SIZE[1] + 1000, SIZE[0] + 1000), bool)
    expected[at[1] + 500:at[1] + 580, at[0] + 500:at[0] + 590] = part
    rle = crop_rle(part, *at, *SIZE)
    assert rle['size'] == [160, 200] and isinstance(rle['counts'], str)
    assert (pixels_of(rle) == expected[500:660, 500:700]).all()


@pytest.mark.parametrize('pixels', [np.zeros((160, 200), bool), np.ones((160, 200), bool), np.eye(160, 200) > 0])
def test_rle_of_whole_images(pixels):
    assert (pixels_of(crop_rle(pixels, 0, 0, *SIZE)) == pixels).all()


def test_polygons_with_holes_and_unions():
    outer, hole = [(100, 10.5), (180, 80), (100, 150), (20, 80)], [(100, 60), (120, 80), (100, 100.5), (80, 80)]
    expected = draw(outer) & ~draw(hole)
    rle = polygon_rle([np.ravel(outer)], [np.ravel(hole)], *SIZE)
    assert iou(pixels_of(rle), expected) > 0.99
    assert (pixels_of(unite([rle, crop_rle(DONUT, 0, 0, *SIZE)])) == pixels_of(rle) | DONUT).all()
    assert pixels_of(polygon_rle([[-10, -10, 50, -10, 50, 20, -10, 20]], [], *SIZE)).sum() == 50 * 20


def test_a_rotation_is_clockwise_as_displayed():
    turned, = shapes.rectangle(10, 20, 50, 40, degrees=90).polygons
    assert sorted(np.round(turned, 6).reshape(-1, 2).tolist()) == [[20, 10], [20, 50], [40, 10], [40, 50]]
    assert np.round(turned[:2], 6).tolist() == [40, 10]  # the upper left corner is now at the upper right
    about_corner, = shapes.rectangle(10, 20, 50, 40, degrees=90, pivot=(10, 20)).polygons
    assert np.round(about_corner, 6).tolist() == [10, 20, 10, 60, -10, 60, -10, 20]
    ellipse, = shapes.ellipse(100, 80, 40, 10, degrees=90).polygons
    assert np.round(ellipse[:2], 6).tolist() == [100, 120]


@pytest.mark.parametrize('radius', [0.5, 3, 50, 1500])
def test_an_ellipse_is_close_to_the_curve(radius):
    points = np.array(shapes.ellipse(0, 0, radius, radius).polygons[0]).reshape(-1, 2)
    middles = (points + np.roll(points, 1, axis=0)) / 2
    assert np.hypot(*middles.T).min() > radius - 0.15
