"""``vitdet convert to-coco``: the readers of ``vitdet init``; and what it shares with ``voc-to-coco``."""

import csv
import json

import pytest

from tests.datasets.annotation_files import read, voc, write_images, xml

BOX = ('cat', [10, 20, 20, 40])


def via(root):
    region = dict(shape_attributes=dict(name='rect', x=10, y=20, width=20, height=40),
                  region_attributes=dict(name='cat'))
    (root / 'via.json').write_text(json.dumps({'a.jpg1': dict(filename='a.jpg', size=1, regions=[region])}))


def table(root):
    with open(root / 'boxes.csv', 'w', newline='') as file:
        csv.writer(file).writerows([('filename', 'xmin', 'ymin', 'xmax', 'ymax', 'class'),
                                    ('a.jpg', 10, 20, 30, 60, 'cat')])


def labelme(root):
    shape = dict(label='cat', points=[[10, 20], [30, 60]], shape_type='rectangle')
    (root / 'a.json').write_text(json.dumps(dict(version='5', imagePath='a.jpg', imageWidth=100, imageHeight=80,
                                                 shapes=[shape])))


@pytest.mark.parametrize('write', [via, table, labelme])
def test_any_format(tmp_path, convert, write):
    root = tmp_path / 'set'
    write_images(root, 'a.jpg')
    write(root)
    code, out, err = convert('to-coco', root)
    assert code == 0 and not err and 'all: 1 image, 1 object of 1 class (cat)' in out
    assert f'file names are relative to {root}' in out and read(root / 'annotations/all.json') == {'a.jpg': [BOX]}
    assert convert('to-coco', root, '--out', tmp_path / 'again', '--format', 'voc')[0] == 2


def test_splits_difficult_objects_and_polygons(tmp_path, convert):
    corners = (10, 20, 30, 20, 30, 60)
    polygon = ''.join(f'<{"xy"[i % 2]}{i // 2 + 1}>{v}</{"xy"[i % 2]}{i // 2 + 1}>' for i, v in enumerate(corners))
    text = xml(('cat', 10, 20, 30, 60)).replace('</bndbox>', f'</bndbox><polygon>{polygon}</polygon>'
                                                             '<difficult>1</difficult>')
    root = voc(tmp_path, a=text, b=xml(('cat', 10, 20, 30, 60), name='b.jpg'))
    (root / 'ImageSets/Main').mkdir(parents=True)
    (root / 'ImageSets/Main/train.txt').write_text('a\n')
    assert convert('to-coco', root)[0] == 0 and convert('voc-to-coco', root, '--out', tmp_path / 'voc')[0] == 0
    assert list(read(root / 'annotations/train.json')) == ['JPEGImages/a.jpg']
    assert list(read(root / 'annotations/other.json')) == ['JPEGImages/b.jpg']
    for file in ('annotations/train.json', 'voc/all.json'):
        found = json.loads((root / file).read_text())['annotations'][0]
        assert found['segmentation'] == [list(corners)] and found['area'] == 400 and found['difficult'] == 1


def test_what_coco_cannot_represent_and_what_is_not_recognized(tmp_path, convert):
    write_images(tmp_path / 'classes/cat', 'a.jpg')
    write_images(tmp_path / 'classes/dog', 'b.jpg')
    code, _, err = convert('to-coco', tmp_path / 'classes')
    assert code == 2 and len(err) == 1 and 'has classes of images (class-folders), no objects' in err[0]
    code, _, err = convert('to-coco', tmp_path / 'nothing')
    assert code == 2 and len(err) == 1 and 'nothing does not exist' in err[0]
