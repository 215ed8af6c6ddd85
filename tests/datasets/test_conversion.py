"""Conversions of annotations: round trips, bad rows by file and line, nothing skipped silently or overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.annotation_files import read, voc, write_images, xml, yolo
from tests.end_to_end.tiny_set import load_tool

BCCD = Path(__file__).resolve().parents[3] / 'shared/data/bccd'


def test_voc(tmp_path, convert):
    root = voc(tmp_path, a=xml(('cat', 10, 20, 30, 60), ('dog', 0, 0, 100, 80)), b=xml(name='wrong.jpg'))
    code, out, err = convert('voc-to-coco', root)
    assert code == 0 and not err and out[0].endswith('2 objects of 2 classes (cat, dog)')
    assert 'nothing left out' in out
    assert read(root / 'annotations/all.json') == {
        'a.jpg': [('cat', [10, 20, 20, 40]), ('dog', [0, 0, 100, 80])], 'b.jpg': []}


def test_voc_with_one_based_coordinates_given_classes_and_splits(tmp_path, convert):
    root = voc(tmp_path, a=xml(('cat', 1, 1, 100, 80)), b=xml(('dog', 11, 21, 30, 60), name='b.jpg'))
    (root / 'ImageSets/Main').mkdir(parents=True)
    (root / 'ImageSets/Main/train.txt').write_text('b\n')
    code, _, _ = convert('voc-to-coco', root, '--one-based', '--classes', 'dog,cat,cow', '--splits', 'train')
    assert code == 0 and read(root / 'annotations/train.json') == {'b.jpg': [('dog', [10, 20, 20, 40])]}
    content = json.loads((root / 'annotations/train.json').read_text())
    assert [c['name'] for c in content['categories']] == ['dog', 'cat', 'cow']


BAD_XML = {
    'no area': (xml(('cat', 10, 20, 10, 60)), 6, 'box (10, 20, 10, 60) has no area'),
    'outside': (xml(('cat', 10, 20, 130, 60)), 6, 'reaches beyond the image of 100 x 80'),
    'not a number': (xml(('cat', 10, 'x', 30, 60)), 6, "ymin 'x'"),
    'not finite': (xml(('cat', 10, 'inf', 30, 60)), 6, 'needs four finite numbers'),
    'no name': (xml(('', 10, 20, 30, 60)), 6, 'an object without a class name'),
    'no box': ('<annotation>\n<object><name>cat</name></object></annotation>', 2, 'a box needs four numbers'),
    'other size': (xml(size=(80, 100)), 3, 'a.jpg is 100 x 80, annotated 80 x 100'),
    'broken': ('<annotation>\n<object>\n</annotation>', 3, 'not valid XML'),
    'bomb': ('<!DOCTYPE x [<!ENTITY a "b">]>\n<annotation>&a;</annotation>', None, 'refused'),
}


@pytest.mark.parametrize('case', BAD_XML)
def test_bad_xml_is_reported_with_its_line(tmp_path, convert, case):
    text, line, reason = BAD_XML[case]
    root = voc(tmp_path, a=text, b=xml(('cat', 1, 2, 3, 4), name='b.jpg'))
    code, _, err = convert('voc-to-coco', root, '--classes', 'cat')
    location = f'{root}/Annotations/a.xml' + (f':{line}' if line else '')
    assert code == 1 and len(err) == 2 and err[0].startswith(location + ': ') and reason in err[0]
    assert '1 problem, nothing written' in err[1] and not (root / 'annotations').exists()
    code, out, err = convert('voc-to-coco', root, '--classes', 'cat', '--skip-bad')
    assert code == 0 and len(err) == 1 and '1 rows or files left out' in out
    assert read(root / 'annotations/all.json')['b.jpg'] == [('cat', [1, 2, 2, 2])]


def test_clip(tmp_path, convert):
    root = voc(tmp_path, a=xml(('cat', -5, 20, 130, 60)))
    assert convert('voc-to-coco', root, '--clip')[0] == 0
    assert read(root / 'annotations/all.json') == {'a.jpg': [('cat', [0, 20, 100, 40])]}


def test_names_in_a_split_that_are_unknown_or_occur_twice(tmp_path, convert):
    root = voc(tmp_path, a=xml())
    (tmp_path / 'ImageSets/Main').mkdir(parents=True)
    (tmp_path / 'ImageSets/Main/train.txt').write_text('a\nb\na\n')
    code, _, err = convert('voc-to-coco', root, '--splits', 'train')
    assert code == 1
    assert "train.txt:2: there is no annotated image 'b'" in err[0] and 'train.txt:3: a is already in line 1' in err[1]
    assert 'does not exist' in convert('voc-to-coco', root, '--splits', 'none')[2][0]


def test_yolo(tmp_path, convert):
    rows = {'a': '1 0.5 0.5 0.2 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.5\n', 'deep/b': '', 'c': None}
    root = yolo(tmp_path, rows)
    code, out, err = convert('yolo-to-coco', root, '--classes', root / 'data.yaml')
    assert code == 0 and not err and '2 images have no objects, 1 of them no label file' in out
    assert read(root / 'annotations/all.json') == {
        'a.png': [('dog', [40, 20, 20, 40]), ('cat', [10, 8, 20, 32])], 'c.png': [], 'deep/b.png': []}
    polygon = json.loads((root / 'annotations/all.json').read_text())['annotations'][1]
    assert polygon['segmentation'] == [[10, 8, 30, 8, 30, 40]] and polygon['area'] == 320


def test_yolo_splits(tmp_path, convert):
    for split in ('train', 'val'):
        yolo(tmp_path, {split[0]: '0 0.5 0.5 1 1\n'}, split)
    assert convert('yolo-to-coco', tmp_path, '--classes', 'cat,dog', '--splits', 'train', 'val')[0] == 0
    assert list(read(tmp_path / 'annotations/val.json')) == ['v.png']


@pytest.mark.parametrize(('row', 'reason'), [
    ('0 0.5 0.5 0.2', '4 numbers; a box has 5'), ('0 0.5 0.5 0.2 x', "not only numbers: '0 0.5 0.5 0.2 x'"),
    ('2 0.5 0.5 0.2 0.2', 'class 2; there are 2, counted from 0'), ('0.5 0.5 0.5 0.2 0.2', 'class 0.5'),
    ('0 0.5 0.5 0.2 0', 'must be above 0'), ('0 0.9 0.5 0.4 0.2', 'reaches beyond'), ('0 50 50 20 20', 'not relative'),
    ('0 nan 0.5 0.2 0.2', 'not finite'), ('0 .5 .5 .2 .2\n0 .5 .5 .2 .2', 'the same as line 2'),
    ('0 0.1 0.1 0.2 0.2 0.3', '6 numbers')])
def test_bad_rows_are_reported_with_their_line(tmp_path, convert, row, reason):
    root = yolo(tmp_path, {'a': f'1 0.5 0.5 0.5 0.5\n{row}\n'})
    line = 1 + len(row.splitlines())
    code, _, err = convert('yolo-to-coco', root, '--classes', 'cat,dog')
    assert code == 1 and err[0].startswith(f'{root}/labels/a.txt:{line}: ') and reason in err[0]
    assert not (root / 'annotations').exists()
    assert convert('yolo-to-coco', root, '--classes', 'cat,dog', '--skip-bad')[0] == 0
    assert len(read(root / 'annotations/all.json')['a.png']) == line - 1


def test_labels_without_an_image_and_unreadable_images(tmp_path, convert):
    root = yolo(tmp_path, {'a': '', 'b': ''})
    (root / 'images/a.png').write_bytes(b'no image')
    (root / 'labels/c.txt').write_text('0 0.5 0.5 1 1')
    code, _, err = convert('yolo-to-coco', root, '--classes', 'cat')
    assert code == 1 and 'a.png: the image has no known image format' in err[0]
    assert 'c.txt: no image of this name' in err[1]


BOXES = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 60), st.floats(0, 50), st.floats(1, 39), st.floats(1, 29)),
                 max_size=4)


@settings(max_examples=20)
@given(st.lists(BOXES, min_size=1, max_size=3))
@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_round_trip(tmp_path_factory, kind, objects):
    root, tool = tmp_path_factory.mktemp('set'), load_tool('dataset/convert')
    folder = {'voc': 'JPEGImages', 'yolo': 'images/train'}[kind]
    write_images(root / folder, *[f'{i}.png' for i in range(len(objects))])
    content = dict(images=[dict(id=i, file_name=f'{i}.png', width=100, height=80) for i in range(len(objects))],
                   categories=[dict(id=3 * k + 1, name=name) for k, name in enumerate('xyz')], annotations=[])
    for i, boxes in enumerate(objects):
        for label, *box in dict.fromkeys((label, *np.round(box, 2).tolist()) for label, *box in boxes):
            content['annotations'].append(dict(id=len(content['annotations']), image_id=i, iscrowd=0,
                                               category_id=3 * label + 1, bbox=box, area=1))
    (root / 'in.json').write_text(json.dumps(content))
    assert tool.main([f'coco-to-{kind}', str(root / 'in.json'), '--out', str(root)]) == 0
    classes = ['--classes', 'x,y,z', '--splits', 'train']
    assert tool.main([f'{kind}-to-coco', str(root), *classes]) == 0
    before, after = read(root / 'in.json'), read(root / 'annotations/train.json')
    assert list(before) == list(after)
    for name in before:
        assert [label for label, _ in before[name]] == [label for label, _ in after[name]]
        for (_, a), (_, b) in zip(before[name], after[name]):
            assert a == pytest.approx(b, abs=1e-3)


def test_nothing_is_overwritten(tmp_path, convert):
    root = voc(tmp_path, a=xml(('cat', 1, 2, 3, 4)))
    assert convert('voc-to-coco', root)[0] == 0
    before = (root / 'annotations/all.json').read_text()
    (root / 'Annotations/a.xml').write_text(xml())
    code, _, err = convert('voc-to-coco', root)
    assert code == 2 and 'all.json exists; remove it' in err[0]
    assert (root / 'annotations/all.json').read_text() == before


@pytest.mark.parametrize(('change', 'reason'), [
    (lambda c: c['annotations'][0].update(iscrowd=1), 'annotation 1: a crowd'),
    (lambda c: c['annotations'][0].update(iscrowd=2), 'annotation 1: a crowd'),
    (lambda c: c['annotations'][0].update(iscrowd='maybe'), 'annotation 1: a crowd'),
    (lambda c: c['annotations'][0].update(bbox=[1, 2, 0, 4]), 'annotation 1: box (1, 2, 1, 6) has no area'),
    (lambda c: c['annotations'][0].update(image_id=9), 'annotation 1: image_id 9 is not in the file'),
    (lambda c: c['annotations'][0].update(category_id=9), 'annotation 1: category_id 9'),
    (lambda c: c['annotations'][0].pop('bbox'), 'annotation 1: bbox None'),
    (lambda c: c['images'][0].update(file_name='../../a.jpg'), "image 1: file_name '../../a.jpg' points outside")])
@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_objects_without_an_equivalent_in_the_other_format_are_listed(tmp_path, convert, kind, change, reason):
    content = dict(images=[dict(id=1, file_name='a.jpg', width=10, height=10)], categories=[dict(id=1, name='x')],
                   annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 3, 4], iscrowd=0)])
    change(content)
    (tmp_path / 'in.json').write_text(json.dumps(content))
    code, _, err = convert(f'coco-to-{kind}', tmp_path / 'in.json', '--out', tmp_path / 'out')
    assert code == 1 and reason in err[0] and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['yolo-to-coco', '.', '--classes', 'none.yaml'], 'none.yaml does not exist'),
    (['yolo-to-coco', '.', '--classes', 'a,a'], 'a name occurs twice'),
    (['voc-to-coco', 'nowhere'], 'holds no .xml files'),
    (['coco-to-yolo', 'nowhere.json', '--out', 'x'], 'nowhere.json does not exist')])
def test_an_error_is_one_line(tmp_path, monkeypatch, convert, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = convert(*arguments)
    assert code == 2 and len(err) == 1 and message in err[0]


def test_real_blood_cells(tmp_path, convert):
    """The files of BCCD: two boxes without area are reported, the rest equals the published conversion."""
    if not BCCD.is_dir():
        pytest.skip('the BCCD data set is not available')
    folders = ['--annotations', 'voc_annotations', '--images', 'images', '--imagesets', 'voc_imagesets/Main']
    code, out, err = convert('voc-to-coco', BCCD, *folders, '--splits', 'trainval', 'test', '--out', tmp_path,
                             '--skip-bad')
    assert code == 0 and len(err) == 2 and '2 rows or files left out' in out
    for ours, theirs in (('trainval', 'train'), ('test', 'val')):
        ours, theirs = read(tmp_path / f'{ours}.json'), read(BCCD / f'annotations/instances_{theirs}.json')
        assert ours.keys() == theirs.keys()
        assert all(sorted(ours[name]) == sorted(theirs[name]) for name in ours)
