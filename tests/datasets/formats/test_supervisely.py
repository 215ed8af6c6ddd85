"""Projects of Supervisely written by hand."""

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.known_pixels import (
    DONUT,
    draw,
    iou,
    objects_of,
    pixels_of,
    read,
    texts,
    write_image,
    write_json,
    write_turned,
)

EXTERIOR = [[100, 10], [180, 80], [100, 150], [20, 80]]
INTERIOR = [[100, 60], [120, 80], [100, 100], [80, 80]]


def polygon(label='dog', exterior=EXTERIOR, interior=()):
    return dict(classTitle=label, geometryType='polygon', tags=[],
                points=dict(exterior=exterior, interior=list(interior)))


def rectangle(*corners, label='cat', **more):
    return dict(classTitle=label, geometryType='rectangle', points=dict(exterior=list(corners), interior=[])) | more


def bitmap(mask, mode, origin=(30, 20), label='ring'):
    if mode == 'RGBA':
        image = Image.fromarray(np.repeat(mask[..., None].astype(np.uint8) * 255, 4, axis=2))
    elif mode == 'P':
        image = Image.fromarray(mask.astype(np.uint8), 'L').convert('P')
        image.putpalette([0, 0, 0, 255, 255, 255])
    else:
        image = Image.fromarray(mask)
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', **(dict(transparency=0) if mode == 'P' else {}))
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return dict(classTitle=label, geometryType='bitmap', bitmap=dict(data=data, origin=list(origin)))


def project(folder, *objects, name='a.jpg', dataset='ds0', tags=(), size=(200, 160), titles=('ring', 'dog', 'cat')):
    write_image(folder / dataset / 'img' / name)
    write_json(folder / 'meta.json', dict(
        classes=[dict(title=title, shape='any', color='#FF0000') for title in titles], tags=[], projectType='images'))
    write_json(folder / dataset / 'ann' / f'{name}.json', dict(
        description='', size=dict(width=size[0], height=size[1]), objects=list(objects),
        tags=[dict(name=tag, value=None) for tag in tags]))
    return folder


def test_shapes_and_order_of_classes(tmp_path):
    found = read(project(tmp_path, polygon(), rectangle([110, 80.5], [10, 20])), 'supervisely')
    dog, cat = objects_of(found)
    assert found.classes == ['ring', 'dog', 'cat'] and not found.problems
    assert dog.mask == [[value for point in EXTERIOR for value in point]]
    assert cat.box == (10, 20, 110, 80.5) and cat.mask is None


def test_a_polygon_keeps_its_hole(tmp_path):
    ring, = objects_of(read(project(tmp_path, polygon(interior=[INTERIOR])), 'supervisely'))
    assert isinstance(ring.mask, dict)
    assert iou(pixels_of(ring.mask), draw(EXTERIOR) & ~draw(INTERIOR)) > 0.99


@pytest.mark.parametrize('mode', ['1', 'P', 'RGBA'])
def test_bitmap(tmp_path, mode):
    found = read(project(tmp_path, bitmap(DONUT[20:100, 30:120], mode),
                         bitmap(np.ones((10, 10), bool), mode, (190, 155))), 'supervisely')
    ring, corner = objects_of(found)
    assert (pixels_of(ring.mask) == DONUT).all() and corner.box == (190, 155, 200, 160)


def test_splits_by_tags_and_folders(tmp_path):
    project(tmp_path, name='a.jpg', tags=['val', 'blurred'])
    project(tmp_path, name='b.jpg', dataset='train')
    project(tmp_path, polygon(), name='a.jpg', dataset='more')
    found = read(tmp_path, 'supervisely')
    assert {str(each.path.relative_to(tmp_path)): (each.split, len(each.objects)) for each in found.images} == {
        'ds0/img/a.jpg': ('val', 0), 'train/img/b.jpg': ('train', 0), 'more/img/a.jpg': (None, 1)}
    assert any('1 blurred' in note for note in found.notes)


def test_the_file_meta_json_stands_for_the_project(tmp_path):
    assert len(objects_of(read(project(tmp_path, polygon()) / 'meta.json', 'supervisely'))) == 1


def test_an_older_export_without_meta_json(tmp_path):
    project(tmp_path, polygon(), bitmap(DONUT, '1', (0, 0)) | dict(geometryType=None))
    (tmp_path / 'meta.json').unlink()
    (tmp_path / 'ds0/ann/a.jpg.json').rename(tmp_path / 'ds0/ann/a.json')
    found = read(tmp_path, 'supervisely')
    assert found.classes == ['dog', 'ring'] and len(objects_of(found)) == 2


def test_problems(tmp_path):
    broken = bitmap(DONUT, '1')
    project(tmp_path, dict(classTitle='eye', geometryType='point', points=dict(exterior=[[1, 2]], interior=[])),
            polygon(exterior=[[1, 2], [3, 4]]), rectangle([1, 2]),
            broken | dict(bitmap=dict(data='AAAA', origin=[0, 0])),
            broken | dict(bitmap=dict(data=broken['bitmap']['data'])), rectangle([5, 5], [5, 9]),
            polygon(exterior=None), polygon() | dict(classTitle=None), 'text', polygon())
    project(tmp_path, polygon(), polygon(), name='b.jpg')
    (tmp_path / 'ds0/img/b.jpg').unlink()
    write_json(tmp_path / 'ds0/ann/c.jpg.json', [1])
    found = read(tmp_path, 'supervisely')
    assert len(objects_of(found)) == 1
    for text, words in zip(texts(found), (
            'a.jpg.json:1: eye: a point is not', 'a.jpg.json:2: dog: a polygon of 2', 'rectangle of 1 points',
            'not compressed', 'pairs', 'no area', 'pairs', 'a.jpg.json:8: an object: no classTitle',
            'a.jpg.json:9', 'b.jpg.json:None: the image',
            'c.jpg.json:None: not an'), strict=True):
        assert words in text
    assert 'its 2 objects' in texts(found)[9]


def test_sizes(tmp_path):
    project(tmp_path, rectangle([10, 10], [20, 30]), bitmap(DONUT[::2, ::2], '1', (0, 0)), size=(100, 80))
    project(tmp_path, polygon(), name='b.jpg', size=(160, 200))
    write_turned(tmp_path / 'ds0/img/b.jpg')
    found = read(tmp_path, 'supervisely')
    box, ring = objects_of(found)
    assert box.box == (20, 20, 40, 60) and (pixels_of(ring.mask) == DONUT).all()
    text, = texts(found)
    assert 'b.jpg is 200 x 160' in text and 'EXIF' in text
