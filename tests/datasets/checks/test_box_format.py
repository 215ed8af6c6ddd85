"""Boxes in other formats than COCO's are recognized; right ones are not."""

import numpy as np
import pytest

from vitdet_plugin.datasets.checks.annotations import check_annotations
from vitdet_plugin.datasets.checks.box_format import find_other_format

WIDTH, HEIGHT = 96, 80
FORMATS = {
    'x1, y1, x2, y2': lambda x, y, w, h: [x, y, x + w, y + h],
    'center x, center y, width, height': lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    'y, x, height, width': lambda x, y, w, h: [y, x, h, w],
    'y1, x1, y2, x2': lambda x, y, w, h: [y, x, y + h, x + w],
    'fractions of the image, 0 to 1': lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT],
}


def annotations(convert, with_masks, seed=0, largest=40):
    rng, found = np.random.default_rng(seed), []
    for number in range(1, 41):
        w, h = rng.integers(8, largest, 2).tolist()
        x, y = int(rng.integers(0, WIDTH - w)), int(rng.integers(0, HEIGHT - h))
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        found.append(dict(id=number, image_id=1, category_id=1, iscrowd=0, area=w * h, bbox=convert(x, y, w, h),
                          **(dict(segmentation=[polygon]) if with_masks else {})))
    return found


IMAGES = {1: dict(id=1, file_name='a.jpg', width=WIDTH, height=HEIGHT)}


@pytest.mark.parametrize('name', FORMATS)
def test_other_formats_by_their_masks(name):
    assert find_other_format(annotations(FORMATS[name], True), IMAGES)[0] == name


@pytest.mark.parametrize('name', ['x1, y1, x2, y2', 'fractions of the image, 0 to 1'])
def test_other_formats_by_their_images(name):
    assert find_other_format(annotations(FORMATS[name], False), IMAGES)[0] == name


def test_centers_by_their_images():
    """Without masks they are found where enough objects are at the right and lower edges."""
    centers = (86, 72), (85, 40), (30, 71), (10, 8), (40, 30), (84, 70)
    rows = [dict(image_id=1, bbox=[x, y, 20, 16]) for x, y in centers]
    assert find_other_format(rows, IMAGES)[0] == 'center x, center y, width, height'


@pytest.mark.parametrize('with_masks', [False, True])
@pytest.mark.parametrize('largest', [10, 40, 78])
def test_right_boxes_are_accepted(with_masks, largest):
    for seed in range(10):
        assert find_other_format(annotations(lambda *box: list(box), with_masks, seed, largest), IMAGES) is None


def test_boxes_that_leave_the_image_in_no_consistent_way_are_not_guessed():
    rows = annotations(lambda x, y, w, h: [x + 60, y, w, h], False)
    assert find_other_format(rows, IMAGES) is None
    assert find_other_format([None, dict(image_id=[1]), dict(image_id=1, bbox=['a'] * 4)], IMAGES) is None


def test_the_line_names_both_formats():
    content = dict(images=list(IMAGES.values()), categories=[dict(id=1, name='x')],
                   annotations=annotations(FORMATS['x1, y1, x2, y2'], True))
    (fault,) = [each for each in check_annotations(content) if each.level == 'error']
    assert str(fault).startswith('bbox looks like x1, y1, x2, y2; COCO uses x, y, width, height')
