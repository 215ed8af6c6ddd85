"""Conversions of COCO files as other tools write them."""

import copy

import pytest

from vitdet_plugin.coco.content import (
    LOST_MASK,
    SAME_NAME,
    UNUSED_NAME,
    integer_id,
    number_annotations,
    parse_flag,
    prepare_coco,
)
from vitdet_plugin.coco.masks import mask_area, mask_bounds, usable_mask

SQUARE = [1, 2, 5, 2, 5, 8, 1, 8]
PAIRS = [[1, 2], [5, 2], [5, 8], [1, 8]]
RLE = dict(size=[8, 10], counts=[16, 4, 4, 4, 52])  # columns 2 and 3, rows 0 to 3


def content(**changes):
    annotation = dict(id=1, image_id=1, category_id=5, bbox=[1, 2, 4, 6], area=24, iscrowd=0, segmentation=[SQUARE])
    annotation.update(changes)
    return dict(images=[dict(id=1, file_name='a.jpg', width=10, height=8)], categories=[dict(id=5, name='x')],
                annotations=[{key: value for key, value in annotation.items() if value != 'missing'}])


def prepared(**changes):
    given = content(**changes)
    before = copy.deepcopy(given)
    result = prepare_coco(given)
    assert given == before  # the content of the file is not changed
    return result.content['annotations'][0], [change.kind for change in result.changes]


def test_a_valid_file_is_not_copied():
    given = content()
    result = prepare_coco(given)
    assert result.changes == [] and result.image_ids == result.category_ids == {}
    assert result.content['annotations'][0] is given['annotations'][0] and result.content['images'] == given['images']


@pytest.mark.parametrize('value, flag', [(0, 0), (1, 1), (True, 1), (False, 0), (1.0, 1), ('0', 0), ('1', 1), (None, 0),
                                         ('false', 0), ('True', 1), ('', 0), (2, 1), (-1, 1), ('2', 1), (10**400, 1),
                                         ('maybe', None), ([], None), (float('nan'), None), ('inf', None)])
def test_crowd_flags(value, flag):
    assert parse_flag(value) == flag
    annotation, kinds = prepared(iscrowd=value)
    assert annotation['iscrowd'] is value if flag is None else annotation['iscrowd'] == flag
    assert any('is not 0 or 1' in kind for kind in kinds) == (flag is None)
    assert any('other than 0 and 1' in kind for kind in kinds) == (value in (2, -1, '2', 10**400))
    assert prepared(iscrowd='missing')[0]['iscrowd'] == 0


@pytest.mark.parametrize('value, key', [(3, 3), (3.0, 3), ('3', 3), ('000123', 123), (1.5, None), (True, None),
                                        ('', None), ([1], None), (None, None)])
def test_ids(value, key):
    assert integer_id(value) == key


def test_text_ids_are_the_same_in_every_file():
    number = integer_id('scan_a')
    assert number == integer_id('scan_a') != integer_id('scan_b') and 0 < number < 2 ** 48
    given = content(image_id='scan_a', category_id='5')
    given['images'][0]['id'], given['categories'][0]['id'] = 'scan_a', '5'
    result = prepare_coco(given)
    assert result.image_ids == {number: 'scan_a'} and result.category_ids == {5: '5'}
    assert result.content['annotations'][0]['image_id'] == result.content['images'][0]['id'] == number
    assert prepared(image_id='1', category_id=5.0)[0] == content()['annotations'][0]  # only the references are text


@pytest.mark.parametrize('mask, usable, lost', [
    ([SQUARE], [SQUARE], False), (SQUARE, [SQUARE], False), (PAIRS, [SQUARE], False), ([PAIRS], [SQUARE], False),
    ([[SQUARE]], [SQUARE], False), ([RLE], RLE, False), (RLE, RLE, False), ([], [], False), (None, None, False),
    ([[]], [], True), ([[1, 1, 5, 5]], [], True), ([[1, 1, 5, 5, 5, 9, 3]], [], True), ([[], SQUARE], [SQUARE], True),
    (dict(size=[8, 10], counts=[80]), [], True), ('text', 'text', False), ([[None] * 6], [[None] * 6], False)])
def test_masks(mask, usable, lost):
    assert usable_mask(mask) == (usable, lost)
    kinds = prepared(segmentation=mask)[1]
    assert (LOST_MASK in kinds) == (lost and not usable)


def test_bounds_and_areas_of_masks():
    assert mask_bounds([SQUARE]) == [1, 2, 4, 6] and mask_area([SQUARE]) == 24
    assert mask_bounds(RLE) == [2, 0, 2, 4] and mask_area(RLE) == 8
    for invalid in (None, [], 'x', {}, dict(size=[8, 10], counts='zz'), dict(size=[8], counts=[1]), [[None] * 6]):
        assert mask_bounds(invalid) is mask_area(invalid) is None


def test_missing_boxes_and_areas_are_computed():
    assert prepared(bbox='missing')[0]['bbox'] == [1, 2, 4, 6]
    for area in ('missing', None, 0, -1, 'x', float('nan')):
        assert prepared(area=area)[0]['area'] == 24
    assert prepared(area='missing', segmentation='missing')[0]['area'] == 24
    assert prepared(area='missing', segmentation=RLE)[0]['area'] == 8


def test_annotation_ids():
    given = content()
    assert number_annotations(given) is given
    for ids in ([0, 1], [1, 1], ['1', '2'], [None, 3], [1.0, 2]):
        many = {**given, 'annotations': [{**given['annotations'][0], 'id': key} for key in ids]}
        assert [each['id'] for each in number_annotations(many)['annotations']] == [1, 2]


def test_names_of_categories():
    given = content()
    given['categories'] = [dict(id=0, name='x'), dict(id=5, name='x'), dict(id=6, name=7)]
    result = prepare_coco(given)
    assert result.content['categories'] == [dict(id=5, name='x'), dict(id=6, name='7')]
    assert result.changes == [('warning', UNUSED_NAME, "'x' (id 0)")]
    given['annotations'].append({**given['annotations'][0], 'id': 2, 'category_id': 0})
    assert prepare_coco(given).changes == [('error', SAME_NAME, "'x' (ids 0, 5)")]


def test_file_names_of_lvis():
    image = dict(id=1, coco_url='http://images.cocodataset.org/train2017/1.jpg')
    assert prepare_coco(dict(images=[image])).content['images'][0]['file_name'] == 'train2017/1.jpg'
