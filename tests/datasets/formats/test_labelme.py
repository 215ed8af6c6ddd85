"""LabelMe files written by hand."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.known_pixels import (
    DONUT,
    near,
    objects_of,
    pixels_of,
    read,
    texts,
    write_image,
    write_json,
    write_turned,
)

TRIANGLE = [[20.5, 30.25], [120, 40], [60, 130.75]]


def shape(label, points, kind='polygon', **more):
    return dict(label=label, points=points, shape_type=kind, group_id=None, flags={}, **more)


def content(*shapes, image='a.jpg', size=(200, 160), **more):
    return dict(version='5.4.1', flags={}, shapes=list(shapes), imagePath=image, imageData=None,
                imageHeight=size[1], imageWidth=size[0], **more)


def labelme(folder, *shapes, image='a.jpg', encoding='utf-8', **more):
    write_image(folder / 'a.jpg')
    write_json(folder / 'a.json', content(*shapes, image=image, **more), encoding)
    return folder


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, 'PNG')
    return base64.b64encode(buffer.getvalue()).decode()


def test_polygon_and_rectangle(tmp_path):
    found = read(labelme(tmp_path, shape('dog', TRIANGLE), shape('cat', [[110.5, 90], [10, 20.25]], 'rectangle')),
                 'labelme')
    assert found.classes == ['cat', 'dog'] and not found.problems and not found.clipped
    dog, cat = objects_of(found)
    assert dog.mask == [[value for point in TRIANGLE for value in point]]
    assert near(dog.box, (20.5, 30.25, 120, 130.75))
    assert cat.box == (10, 20.25, 110.5, 90) and cat.mask is None


def test_circle_has_its_area_and_extent(tmp_path):
    circle, = objects_of(read(labelme(tmp_path, shape('ball', [[100, 80], [130, 120]], 'circle')), 'labelme'))
    assert near(circle.box, (50, 30, 150, 130), 0.1)
    x, y = np.array(circle.mask[0]).reshape(-1, 2).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(math.pi * 50 ** 2, rel=0.005)


def test_mask_at_its_offset_keeps_the_hole(tmp_path):
    part = DONUT[20:100, 30:120]
    donut, = objects_of(read(labelme(tmp_path, shape('ring', [[30, 20], [119, 99]], 'mask', mask=png(part))),
                             'labelme'))
    assert (pixels_of(donut.mask) == DONUT).all() and donut.box == (30, 20, 120, 100)


def test_rotation_of_anylabeling_and_rectangle_of_four_points(tmp_path):
    tilted = [[100, 40], [140, 80], [100, 120], [60, 80]]
    upright = [[10, 20], [50, 20], [50, 60], [10, 60]]
    turned, box = objects_of(read(labelme(tmp_path, shape('a', tilted, 'rotation', direction=0.78),
                                          shape('a', upright, 'rectangle')), 'labelme'))
    assert turned.mask == [[value for point in tilted for value in point]] and turned.box == (60, 40, 140, 120)
    assert box.box == (10, 20, 50, 60) and box.mask is None


def test_parts_of_a_group_are_one_object(tmp_path):
    parts = [shape('car', [[x, 10], [x + 20, 10], [x + 20, 40]]) | dict(group_id=3) for x in (10, 60)]
    other = shape('dog', TRIANGLE) | dict(group_id=3)
    part = np.ones((5, 5), bool)
    mixed = [shape('bus', [[0, 100], [10, 110]], 'rectangle') | dict(group_id=4),
             shape('bus', [[50, 100], [54, 104]], 'mask', mask=png(part)) | dict(group_id=4)]
    car, dog, bus = objects_of(read(labelme(tmp_path, *parts, other, *mixed), 'labelme'))
    assert car.name == 'car' and len(car.mask) == 2 and car.box == (10, 10, 80, 40)
    assert dog.name == 'dog'
    assert pixels_of(bus.mask).sum() == 100 + 25 and bus.box == (0, 100, 55, 110)


def test_what_encloses_no_region_is_a_problem(tmp_path):
    found = read(labelme(
        tmp_path, shape('eye', [[3, 4]], 'point'), shape('wire', [[3, 4], [5, 6]], 'line'),
        shape('wire', [[3, 4], [5, 6], [8, 9]], 'linestrip'), shape('dog', TRIANGLE[:2]), shape('', TRIANGLE),
        shape('dog', [[1, 2], [3, math.nan], [4, 4]]), shape('ring', [[0, 0]], 'mask', mask='!!'),
        shape('far', [[300, 300], [400, 300], [400, 400]]), 'text', shape('dog', TRIANGLE)), 'labelme')
    assert len(objects_of(found)) == 1
    problems = sorted(texts(found))
    assert [text.split(': ')[0] for text in problems] == [f'a.json:{number}' for number in range(1, 10)]
    for text, words in zip(problems, (
            'type point', 'type line', 'type linestrip', '2 points', 'without a class', 'not a number of pixels',
            'not an image', 'encloses nothing', 'not a shape'), strict=True):
        assert words in text


def test_labels_that_are_no_classes(tmp_path):
    found = read(labelme(tmp_path, shape('__ignore__', TRIANGLE), shape('_background_', TRIANGLE),
                         shape('dog', TRIANGLE)), 'labelme')
    assert found.classes == ['dog'] and len(found.problems) == 2 and 'left out' in texts(found)[0]


def test_version_3_without_types_and_sizes(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    write_json(tmp_path / 'json/a.json', dict(version='3.2.0', imagePath='..\\images\\a.jpg', imageData='',
                                              lineColor=[0, 0, 0, 0], shapes=[dict(label='cat', points=TRIANGLE)]))
    assert objects_of(read(tmp_path, 'labelme'))[0].name == 'cat'


def test_an_image_that_was_renamed_with_its_file(tmp_path):
    labelme(tmp_path, shape('cat', TRIANGLE))
    write_image(tmp_path / 'b.png')
    write_json(tmp_path / 'b.json', content(shape('dog', TRIANGLE)))
    found = read(tmp_path, 'labelme')
    assert [each.name for each in objects_of(found, 'b.png')] == ['dog'] and not found.problems


def test_pixels_in_the_file_only(tmp_path):
    labelme(tmp_path, shape('cat', TRIANGLE))
    write_json(tmp_path / 'b.json', content(shape('dog', TRIANGLE), image='b.jpg') | dict(imageData='iVBORw0KGgo='))
    text, = texts(read(tmp_path, 'labelme'))
    assert 'b.jpg' in text and 'imageData' in text and '1 objects are not converted' in text


def test_two_files_of_an_image_and_broken_files(tmp_path):
    labelme(tmp_path, shape('cat', TRIANGLE))
    write_json(tmp_path / 'copy/x.json', content(shape('dog', TRIANGLE)))
    (tmp_path / 'bad.json').write_text('{"shapes": [\n{')
    write_json(tmp_path / 'package.json', dict(name='x', version='1.0'))
    found = read(tmp_path, 'labelme')
    assert [each.name for each in objects_of(found)] == ['cat']
    assert any('1 JSON files with another content' in note for note in found.notes)
    assert [text.split(':')[:2] for text in texts(found)] == [['bad.json', '2'], ['x.json', 'None']]


@pytest.mark.parametrize(('size', 'factor'), [((100, 80), 2), ((400, 320), 0.5)])
def test_a_resized_image_scales_the_objects(tmp_path, size, factor):
    mask = np.zeros((80, 100), bool)
    mask[10:30, 20:60] = True
    found = read(labelme(tmp_path, shape('cat', [[20, 10], [60, 30]], 'rectangle'), shape('cat', TRIANGLE),
                         shape('cat', [[20, 10]], 'mask', mask=png(mask[10:30, 20:60])), size=size), 'labelme')
    box, polygon, masked = objects_of(found)
    expected = tuple(factor * value for value in (20, 10, 60, 30))
    assert box.box == expected and masked.box == expected
    assert polygon.mask[0][:2] == [factor * 20.5, factor * 30.25]
    assert any('1 images have another size' in note for note in found.notes)


def test_sizes_that_do_not_fit_are_problems(tmp_path):
    labelme(tmp_path, shape('cat', TRIANGLE), size=(123, 45))
    write_turned(tmp_path / 'turned.jpg')
    write_json(tmp_path / 'turned.json', content(shape('dog', TRIANGLE), image='turned.jpg', size=(160, 200)))
    found = read(tmp_path, 'labelme')
    assert not found.images
    assert 'a.jpg is 200 x 160, annotated 123 x 45; its 1 objects' in texts(found)[0]
    assert 'EXIF orientation' in texts(found)[1]


def test_the_turned_size_fits(tmp_path):
    write_turned(tmp_path / 'a.jpg')
    write_json(tmp_path / 'a.json', content(shape('dog', TRIANGLE)))
    assert len(objects_of(read(tmp_path, 'labelme'))) == 1


@pytest.mark.parametrize(('encoding', 'name'), [('utf-8-sig', '猫'), ('utf-16', '猫'), ('utf-16-le', '猫'),
                                                ('gbk', '猫和狗'), ('latin-1', 'chénille')])
def test_encodings(tmp_path, encoding, name):
    assert read(labelme(tmp_path, shape(name, TRIANGLE), encoding=encoding), 'labelme').classes == [name]


def test_flags_are_noted(tmp_path):
    labelme(tmp_path, shape('cat', TRIANGLE))
    write_image(tmp_path / 'b.jpg')
    write_image(tmp_path / 'train/c.jpg')
    write_json(tmp_path / 'train/c.json', content(image='c.jpg') | dict(flags=dict(blurred=True, dark=False)))
    found = read(tmp_path, 'labelme')
    assert any('flags' in note and 'blurred (1)' in note for note in found.notes)
    assert any('1 images have no annotation and are left out: b.jpg' in note for note in found.notes)
    assert [(image.path.name, image.split, len(image.objects)) for image in found.images] == [
        ('a.jpg', None, 1), ('c.jpg', 'train', 0)]


def test_flags_are_the_classes_of_images_without_shapes(tmp_path):
    flags = dict(a=dict(cat=True, dog=False), b=dict(cat=False, dog=True), c=dict(__ignore__=True, cat=False),
                 d=dict(cat=True, dog=True), e=dict(cat=False))
    for name, each in flags.items():
        write_image(tmp_path / f'{name}.jpg')
        write_json(tmp_path / f'{name}.json', content(image=f'{name}.jpg') | dict(flags=each))
    found = read(tmp_path, 'labelme')
    assert [(image.path.name, image.label) for image in found.images] == [('a.jpg', 'cat'), ('b.jpg', 'dog')]
    assert found.classes == ['cat', 'dog'] and len(texts(found)) == 3
    assert 'the flag __ignore__ is set' in texts(found)[0] and '2 flags (cat, dog)' in texts(found)[1]
