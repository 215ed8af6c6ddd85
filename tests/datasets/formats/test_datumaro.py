"""Files of Datumaro written by hand."""

import numpy as np
from pycocotools import mask as operations

from tests.datasets.formats.reading import CAT, DOG, assert_objects, polygon, read, splits, write, write_image


def content(*items, names=('dog', 'cat')):
    return dict(info={}, dm_format_version='1.0', items=list(items), categories=dict(
        label=dict(labels=[dict(name=name, parent='', attributes=[]) for name in names], attributes=['occluded'])))


def item(name, *annotations, **more):
    return dict(id=name, annotations=list(annotations), attr=dict(frame=0),
                image=dict(path=f'{name}.jpg', size=[80, 100])) | more


def entry(kind, label, group=0, **more):
    return dict(id=0, type=kind, label_id=('dog', 'cat').index(label), group=group, z_order=0, attributes={}, **more)


def box(name, corners, **more):
    x1, y1, x2, y2 = corners
    return entry('bbox', name, bbox=[x1, y1, x2 - x1, y2 - y1], **more)


def test_subsets_with_boxes_polygons_and_masks(tmp_path):
    pixels = np.zeros((80, 100), np.uint8, order='F')
    pixels[20:60, 10:40] = 1
    rle = operations.encode(pixels)
    rle = dict(counts=rle['counts'].decode(), size=rle['size'])
    for split, entries in (('train', [box(*CAT), entry('polygon', 'dog', points=polygon(DOG[1]))]),
                           ('val', [entry('mask', 'cat', rle=rle)])):
        write_image(tmp_path / 'images' / split / 'a ü.jpg')
        write(tmp_path / 'annotations' / f'{split}.json', content(item('a ü', *entries)))
    found = read(tmp_path, 'datumaro')
    assert_objects(found, tmp_path, {'images/train/a ü.jpg': [CAT, DOG], 'images/val/a ü.jpg': [CAT]})
    assert found.classes == ['dog', 'cat'] and not found.problems
    assert splits(found, tmp_path) == {'images/train/a ü.jpg': 'train', 'images/val/a ü.jpg': 'val'}
    assert (operations.decode(found.images[1].objects[0].mask) == pixels).all()


def test_groups_rotated_boxes_and_ellipses(tmp_path):
    """The parts of a group are one object; a box in it bounds the mask."""
    write_image(tmp_path / 'images/default/a.jpg')
    parts = [entry('polygon', 'cat', 3, points=polygon(each)) for each in ((10, 20, 20, 60), (30, 20, 40, 60))]
    turned = box('dog', (60, 30, 80, 40)) | dict(attributes=dict(rotation=90.0))
    write(tmp_path / 'annotations/default.json', content(item(
        'a', *parts, box(*CAT, group=3), turned, entry('ellipse', 'dog', points=[50.5, 30.25, 90.5, 70.25]))))
    found = read(tmp_path, 'datumaro')
    assert_objects(found, tmp_path, {'images/default/a.jpg': [CAT, ('dog', (65, 25, 75, 45)), DOG]})
    assert len(found.images[0].objects[0].mask) == 2


def test_labels_without_regions_are_classes(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'images/default/{name}.jpg')
    write(tmp_path / 'annotations/default.json', content(
        item('a', entry('label', 'cat')), item('b', entry('label', 'dog'), entry('caption', 'dog', caption='x'))))
    found = read(tmp_path, 'datumaro')
    assert [image.label for image in found.images] == ['cat', 'dog']
    assert any('1 caption' in note for note in found.notes)


def test_what_cannot_be_converted_is_a_problem(tmp_path):
    write_image(tmp_path / 'images/default/a.jpg')
    write(tmp_path / 'annotations/default.json', content(
        item('a', box(*CAT), entry('polyline', 'cat', points=[1, 2, 3, 4]), entry('points', 'cat', points=[1, 2]),
             entry('polygon', 'cat', points=[1, 2, 3]), entry('bbox', 'cat', bbox=[1, 2]),
             entry('mask', 'cat', rle=dict(counts='x', size=[80, 100])), box(*DOG) | dict(label_id=7)),
        item('gone', box(*CAT))))
    found = read(tmp_path, 'datumaro')
    assert_objects(found, tmp_path, {'images/default/a.jpg': [CAT]})
    assert len(found.problems) == 7


def test_crowd_regions_and_difficult_objects_are_marked(tmp_path):
    write_image(tmp_path / 'images/default/a.jpg')
    marks = ({'is_crowd': True}, {'difficult': True, 'is_crowd': False}, {'occluded': True})
    boxes = [box('cat', (10 + 20 * i, 20, 20 + 20 * i, 60)) | dict(attributes=each) for i, each in enumerate(marks)]
    write(tmp_path / 'annotations/default.json', content(item('a', *boxes)))
    found = read(tmp_path, 'datumaro').images[0].objects
    assert [(each.is_crowd, each.is_difficult) for each in found] == [(True, False), (False, True), (False, False)]
