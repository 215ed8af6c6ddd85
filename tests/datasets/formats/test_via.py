"""Files of VIA written by hand."""

import csv
import io
import json
import math

import pytest

from tests.datasets.formats.known_pixels import (
    draw,
    iou,
    near,
    objects_of,
    pixels_of,
    read,
    texts,
    write_image,
    write_json,
)

XS, YS = [20, 120, 60], [30, 40, 130]
POLYGON = dict(name='polygon', all_points_x=XS, all_points_y=YS)
RECT = dict(name='rect', x=10, y=20, width=100, height=60)


def regions(*pairs):
    return [dict(shape_attributes=shape, region_attributes=attributes) for shape, attributes in pairs]


def entry(*pairs, name='a.jpg', as_dict=False, **more):
    listed = regions(*pairs)
    return dict(filename=name, size=12345, file_attributes={}, **more,
                regions={str(i): each for i, each in enumerate(listed)} if as_dict else listed)


def via(folder, *entries, options=None, is_project=False):
    for each in entries:
        write_image(folder / each['filename'])
    content = {f'{each["filename"]}{each["size"]}': each for each in entries}
    if is_project:
        content = dict(_via_settings={}, _via_img_metadata=content, _via_image_id_list=[*content],
                       _via_attributes=dict(region=options or {}, file={}))
    write_json(folder / 'via.json', content)
    return folder


@pytest.mark.parametrize(('as_dict', 'is_project'), [(True, False), (False, False), (False, True)])
def test_shapes(tmp_path, as_dict, is_project):
    ellipse = dict(name='ellipse', cx=100, cy=80, rx=40, ry=20, theta=math.pi / 2)
    via(tmp_path, entry((POLYGON, {'class': 'cat'}), (RECT, {'class': 'dog'}), (ellipse, {'class': 'cat'}),
                        (dict(name='circle', cx=50, cy=60, r=20.5), {'class': 'dog'}), as_dict=as_dict),
        is_project=is_project)
    found = read(tmp_path, 'via')
    polygon, rect, turned, circle = objects_of(found)
    assert found.classes == ['cat', 'dog'] and not found.problems
    assert polygon.mask == [[20, 30, 120, 40, 60, 130]] and polygon.name == 'cat'
    assert rect.box == (10, 20, 110, 80) and rect.mask is None
    assert near(turned.box, (80, 40, 120, 120), 0.1) and near(circle.box, (29.5, 39.5, 70.5, 80.5), 0.1)


def row(name, count, index, shape, attributes, file_attributes='{}'):
    return [name, 123, file_attributes, count, index, json.dumps(shape), json.dumps(attributes, ensure_ascii=False)]


@pytest.mark.parametrize(('mark', 'encoding'), [('#', 'utf-8'), ('', 'utf-8-sig'), ('', 'gbk')])
def test_csv(tmp_path, mark, encoding):
    for name in 'abc':
        write_image(tmp_path / f'{name}.jpg')
    points = [20 + 0.001 * i for i in range(20000)]  # cells are long
    long = dict(name='polygon', all_points_x=[*points, 30], all_points_y=[10] * 20000 + [60])
    text = io.StringIO()
    csv.writer(text).writerows([
        [f'{mark}filename', 'file_size', 'file_attributes', 'region_count', 'region_id', 'region_shape_attributes',
         'region_attributes'],
        row('a.jpg', 2, 0, POLYGON, dict(species='猫')), row('a.jpg', 2, 1, RECT, dict(species='狗')),
        row('b.jpg', 0, 0, {}, {}), row('c.jpg', 1, 0, long, dict(species='猫')),
        row('c.jpg', 1, 0, dict(name='point', cx=1, cy=2), dict(species='猫')),
        ['c.jpg', 123, '{}', 1, 0, '{"name":', '{}'], ['short']])
    (tmp_path / 'via.csv').write_bytes(text.getvalue().encode(encoding))
    found = read(tmp_path, 'via')
    assert found.classes == sorted(['猫', '狗'])
    assert [(each.name, len(each.box)) for each in objects_of(found, 'a.jpg')] == [('猫', 4), ('狗', 4)]
    assert objects_of(found, 'b.jpg') == [] and len(objects_of(found, 'c.jpg')) == 1
    assert [text.split(': ')[0] for text in texts(found)] == ['via.csv:7', 'via.csv:8', 'via.csv:6']


@pytest.mark.parametrize(('attributes', 'classes', 'note'), [
    ([dict(name='cat', id='1'), dict(name='dog', id='2'), dict(name='cat', id='3')], ['cat', 'dog'], "'name'"),
    ([dict(occluded='yes', plant='weed'), dict(occluded='no', plant='crop'), dict(occluded='no', plant='weed')],
     ['crop', 'weed'], "'plant'"),
    ([dict(type={'cat': True}), dict(type={'dog': True, 'cat': False})], ['cat', 'dog'], "'type'"),
    ([{}, {}], ['object'], 'no attribute'),
    ([dict(balloon=''), dict(balloon='')], ['balloon'], "'balloon'"),
    ([dict(cat='1'), dict(dog='1')], ['cat', 'dog'], 'names of the attributes'),
    ([dict(name=''), dict(name='')], ['object'], 'no attribute'),
    ([dict(label=3), dict(label=4)], ['3', '4'], "'label'"),
])
def test_the_attribute_that_states_the_class(tmp_path, attributes, classes, note):
    found = read(via(tmp_path, entry(*((RECT, each) for each in attributes))), 'via')
    assert found.classes == classes and len(objects_of(found)) == len(attributes) and not found.problems
    assert any(note in text for text in found.notes)


@pytest.mark.parametrize('others', [('cat',), ('cat', 'dog')])
def test_regions_without_the_attribute_are_of_the_only_class(tmp_path, others):
    via(tmp_path, entry(*((RECT, {'insect': name}) for name in others)), entry((POLYGON, {}), name='b.jpg'))
    found = read(tmp_path, 'via')
    assert [each.name for each in found.images[1].objects] == ['cat'] * (len(others) == 1)
    assert any('the other 1 are of the same class' in note for note in found.notes) is (len(others) == 1)
    assert any('no value of the attribute' in each for each in texts(found)) is (len(others) == 2)


def test_classes_in_the_order_of_a_project(tmp_path):
    options = dict(kind=dict(type='dropdown', options={'2': 'zebra', '1': 'ant', '3': 'cow'}, default_options={}))
    via(tmp_path, entry((RECT, dict(kind='1')), (RECT, dict(kind='2'))), options=options, is_project=True)
    found = read(tmp_path, 'via')
    assert found.classes == ['zebra', 'ant', 'cow'] and [each.name for each in objects_of(found)] == ['ant', 'zebra']


def test_problems(tmp_path):
    folder = via(tmp_path, entry(
        (dict(name='point', cx=3, cy=4), {'class': 'cat'}), (POLYGON | dict(name='polyline'), {'class': 'cat'}),
        (dict(name='rect', x=1, y=2, width=3), {'class': 'cat'}), (POLYGON | dict(all_points_x=[1]), {'class': 'cat'}),
        (RECT, {'class': ''}), (RECT, {'class': {'cat': True, 'dog': True}}), (RECT, {'class': 'cat'})),
        entry((RECT, {'class': 'cat'}), name='b.jpg'))
    (folder / 'b.jpg').unlink()
    content = json.loads((folder / 'via.json').read_text())
    content['b.jpg12345']['regions'].append('text')
    write_json(folder / 'via.json', content | dict(c='text'))
    found = read(folder, 'via')
    assert len(objects_of(found)) == 1 and 'via.json:3: c: not an image' in texts(found)[0]
    assert 'its 2 objects' in texts(found)[-1]
    for text, words in zip(texts(found)[1:], ('a point is not converted', 'a polyline', 'without height', 'same length',
                                          'no value', 'several values', 'b.jpg is not below'), strict=True):
        assert words in text
    assert len(found.problems) == 8 and 'a.jpg, region 1: ' in texts(found)[1]


def test_the_same_content_as_json_and_csv_counts_once(tmp_path):
    via(tmp_path, entry((RECT, {'class': 'cat'})))
    write_json(tmp_path / 'project.json', dict(_via_img_metadata={'a': entry((RECT, {'class': 'cat'}))}))
    found = read(tmp_path, 'via')
    text, = texts(found)
    assert len(objects_of(found)) == 1 and '1 images of this file are annotated in' in text


def test_splits_of_folders(tmp_path):
    for split in ('train', 'val'):
        via(tmp_path / split, entry((POLYGON, {})))
    found = read(tmp_path, 'via')
    assert [image.split for image in found.images] == ['train', 'val'] and not found.problems
    assert iou(pixels_of(found.images[0].objects[0].mask), draw(list(zip(XS, YS)))) > 0.97


def test_classes_of_whole_images(tmp_path):
    images = [dict(entry(name=f'{name}.jpg'), file_attributes=dict(caption='', public_domain='no', label=label))
              for name, label in (('a', 'cat'), ('b', 'dog'), ('c', 'cat'))]
    found = read(via(tmp_path, *images), 'via')
    assert [image.label for image in found.images] == ['cat', 'dog', 'cat'] and found.classes == ['cat', 'dog']
