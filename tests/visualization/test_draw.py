import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.draw import (
    Objects,
    _overlap,
    class_color,
    draw_objects,
    draw_predictions_and_ground_truth,
    write_figure,
)

GRAY = np.full((64, 96, 3), 128, np.uint8)


def one(box=(20, 10, 60, 50), label=0, score=None, mask=False):
    masks = np.zeros((1, 64, 96), bool)
    masks[0, box[1]:box[3], box[0]:box[2]] = True
    return Objects(np.array([box], float), np.array([label]), None if score is None else np.array([score]),
                   masks if mask else None)


def test_small_images_are_enlarged_and_large_ones_reduced():
    nothing = Objects(np.zeros((0, 4)), np.zeros(0, int))
    assert draw_objects(GRAY, nothing, ()).shape == (373, 560, 3)
    assert draw_objects(np.zeros((2000, 2560, 3), np.uint8), nothing, ()).shape == (1000, 1280, 3)


def test_a_box_changes_only_its_outline():
    drawn = draw_objects(GRAY, one(), ['ball'])
    scale = 560 / 96
    row, column = round(30 * scale), round(60 * scale)
    assert tuple(drawn[row, column]) == class_color(0)  # right edge
    assert tuple(drawn[row, round(40 * scale)]) == (128, 128, 128)  # inside, no mask
    assert tuple(drawn[round(60 * scale), round(80 * scale)]) == (128, 128, 128)


def test_a_mask_changes_only_its_inside():
    drawn = draw_objects(GRAY, one(mask=True), ['ball']).astype(int)
    scale = 560 / 96
    inside, outside = drawn[round(40 * scale), round(40 * scale)], drawn[round(40 * scale), round(80 * scale)]
    assert inside == pytest.approx(0.55 * 128 + 0.45 * np.array(class_color(0)), abs=1.5)
    assert outside == pytest.approx(128)


def test_figures_have_two_panels_and_no_low_scores():
    classes = ['ball', 'star']
    low, high = one(label=1, score=0.2), one(label=1, score=0.8)
    empty = one(box=(0, 0, 0, 0), label=1, score=0.0)
    figure = draw_predictions_and_ground_truth(GRAY, high, one(), classes)
    alone = draw_predictions_and_ground_truth(GRAY, high, None, classes)
    assert figure.shape[1] == 2 * 560 + 3 * 12 and alone.shape[1] == 560 + 2 * 12
    assert np.array_equal(draw_predictions_and_ground_truth(GRAY, low, one(), classes),
                          draw_predictions_and_ground_truth(GRAY, empty, one(), classes))
    assert not np.array_equal(figure, draw_predictions_and_ground_truth(GRAY, low, one(), classes))


@pytest.mark.parametrize(('scores', 'count'), [
    (np.linspace(0, 0.25, 300), 50), (np.linspace(0.5, 0.9, 120), 120), (np.full(120, 0.49), 50),
    (np.full(50, 0.01), 50),
    (np.r_[np.full(80, 0.9), np.full(300, 0.1)], 80), (None, 300)])
def test_many_low_scores_are_not_drawn(scores, count):
    number = 300 if scores is None else len(scores)
    objects = Objects(np.tile([10.0, 10, 20, 20], (number, 1)), np.zeros(number, int), scores,
                      np.zeros((number, 2, 2), bool))
    drawn = objects.limit()
    assert len(drawn) == len(drawn.labels) == len(drawn.masks) == count
    if scores is not None:
        assert sorted(drawn.scores) == sorted(scores)[-count:]


def test_texts_do_not_hide_small_boxes():
    corners = np.array([(x, y) for x in range(40, 500, 24) for y in range(40, 500, 24)], float)
    image = np.full((560, 560, 3), 128, np.uint8)
    boxes = np.concatenate([corners, corners + 16], 1)
    drawn = draw_objects(image, Objects(boxes, np.zeros(len(boxes), int)), ['object'])
    inside = [drawn[round(y) + 8, round(x) + 8] for x, y in corners]
    assert (np.array(inside) == 128).all()
    alone = draw_objects(image, Objects(boxes[:1], np.zeros(1, int)), ['object'])
    assert (alone[:38] != 128).any()  # a text above the box


def test_the_caption_states_how_many_are_drawn():
    objects = Objects(np.tile([10.0, 10, 20, 20], (99, 1)), np.zeros(99, int), np.full(99, 0.1))
    best = Objects(objects.boxes[:50], objects.labels[:50], objects.scores[:50])
    figure, alone = (draw_predictions_and_ground_truth(GRAY, each, None, ['a'], 0.05) for each in (objects, best))
    assert not np.array_equal(figure[:36], alone[:36]) and np.array_equal(figure[36:], alone[36:])


def test_colors_of_classes_are_distinct():
    colors = [class_color(label) for label in range(80)]
    assert len(set(colors)) == 80
    assert all(0 <= part <= 255 for color in colors for part in color)


boxes = st.lists(st.tuples(st.integers(-20, 90), st.integers(-20, 60), st.integers(1, 60), st.integers(1, 60)),
                 max_size=8)


@settings(max_examples=25)
@given(boxes, st.booleans())
def test_any_boxes_can_be_drawn(found, scored):
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in found], float).reshape(-1, 4)
    labels = np.arange(len(found)) + 3  # labels without a class name
    objects = Objects(corners, labels, np.linspace(0, 1, len(found)) if scored else None)
    assert draw_predictions_and_ground_truth(GRAY, objects, objects, ['a'], 0.0).dtype == np.uint8


def test_overlap():
    assert _overlap((0, 0, 2, 2), (1, 1, 3, 3)) and not _overlap((0, 0, 2, 2), (2, 0, 3, 3))


@pytest.mark.parametrize('shape', [(60, 80), (700, 500), (2000, 1500)])
def test_masks_are_drawn_as_by_scaling_the_whole_mask(shape):
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    masks = np.stack([np.hypot(rows - height * y, columns - width * x) < height * radius for y, x, radius in
                      [(0.5, 0.5, 0.2), (0, 0, 0.3), (1, 0.9, 0.1), (0.3, 0.7, 0.02)]] + [np.zeros(shape, bool)])
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    empty = draw_objects(image, Objects(np.zeros((0, 4)), np.zeros(0, int)), ['a'])
    for mask in masks:
        drawn = draw_objects(image, Objects(np.array([[-9.0, -9, -5, -5]]), np.array([0]), None, mask[None]), [' '])
        inside = cv2.resize(mask.astype(np.float32), drawn.shape[1::-1]) >= 0.5
        expected = empty.copy()
        expected[inside] = (0.55 * empty[inside] + 0.45 * np.array(class_color(0))).astype(np.uint8)
        inner = cv2.erode(inside.astype(np.uint8), np.ones((7, 7)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
        outer = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7))) == 0
        inner[:40, :60] = outer[:40, :60] = False  # the label
        np.testing.assert_array_equal(drawn[inner | outer], expected[inner | outer])


def test_a_figure_that_cannot_be_written_is_an_error(tmp_path):
    write_figure(tmp_path / 'new' / 'a.jpg', np.zeros((8, 8, 3), np.uint8))
    assert cv2.imread(str(tmp_path / 'new' / 'a.jpg')).shape == (8, 8, 3)
    (tmp_path / 'b.jpg').mkdir()
    with pytest.raises(UserError, match=r'b\.jpg could not be saved: Is a directory; .* choose another path'):
        write_figure(tmp_path / 'b.jpg', np.zeros((8, 8, 3), np.uint8))
