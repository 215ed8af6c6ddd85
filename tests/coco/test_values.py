"""Numbers of COCO files as text, sizes as floats, and masks that enclose nothing."""

import json

import numpy as np
import pytest

from vitdet_plugin.coco.content import LOST_MASK, prepare_annotation, prepare_coco
from vitdet_plugin.datasets.checks.annotations import check_annotations
from vitdet_plugin.runtime.masks import paste_mask
from vitdet_plugin.utils.mask_rle import decode_mask

SQUARE = [2, 3, 12, 3, 12, 13, 2, 13]


def annotation(**values) -> dict:
    return {**dict(id=1, image_id=1, category_id=1, bbox=[2, 3, 10, 10], area=100, iscrowd=0, segmentation=[SQUARE]),
            **values}


def coco(annotations, **size) -> dict:
    return dict(images=[dict(id=1, file_name='a.png', **{**dict(width=40, height=30), **size})],
                categories=[dict(id=1, name='a')],
                annotations=[{**each, 'id': number} for number, each in enumerate(annotations, 1)])


@pytest.mark.parametrize('width, height', [(40.0, 30.0), ('40', '30'), ('40.0', 30)])
def test_whole_sizes_become_integers(width, height):
    image, = prepare_coco(coco([annotation()], width=width, height=height)).content['images']
    assert (image['width'], image['height']) == (40, 30)
    assert type(image['width']) is int and type(image['height']) is int


@pytest.mark.parametrize('width', [None, 'wide', 40.5, -3.0, True])
def test_other_sizes_are_reported(width):
    assert any('width and height' in fault.kind for fault in check_annotations(coco([annotation()], width=width))) \
        or width == 40.5


@pytest.mark.parametrize('values', [
    dict(bbox=['2', '3', '10', '10']),
    dict(area='100'),
    dict(segmentation=[[str(value) for value in SQUARE]]),
    dict(segmentation=json.dumps([SQUARE])),
])
def test_numbers_as_text_are_read(values):
    assert prepare_annotation(annotation(**values), 0, []) == annotation()


@pytest.mark.parametrize('line', [[1, 1, 5, 5, 9, 9], [4, 4, 4, 4, 4, 4], [0, 2, 8, 2, 3, 2, 1, 2]])
def test_polygons_on_a_line_enclose_nothing(line):
    changes = []
    assert prepare_annotation(annotation(segmentation=[line]), 0, changes)['segmentation'] == []
    assert [change.kind for change in changes] == [LOST_MASK]
    assert prepare_annotation(annotation(segmentation=[line, SQUARE]), 0, [])['segmentation'] == [SQUARE]


def test_masks_in_other_units_than_boxes_are_reported():
    fractions = [annotation(segmentation=[[value / 40 for value in SQUARE]])] * 4
    assert any(fault.level == 'error' and 'fractions' in fault.kind for fault in check_annotations(coco(fractions)))
    moved = [annotation(segmentation=[[value + 14 for value in SQUARE]])] * 4
    assert any(fault.level == 'warning' and 'do not fit' in fault.kind for fault in check_annotations(coco(moved)))
    assert not any('masks' in fault.kind for fault in check_annotations(coco([annotation()] * 4)))


@pytest.mark.parametrize('box, pixels', [((-30, -30, -10, -10), 0), ((100, 100, 120, 120), 0), ((18, 2, 40, 4), 4)])
def test_a_mask_outside_of_its_image_is_empty(box, pixels):
    found = decode_mask(paste_mask(np.ones((28, 28), np.float32), np.array(box, np.float32), (10, 20), 0.5))
    assert found.shape == (10, 20) and np.count_nonzero(found) == pixels
