"""The reader of COCO files; checks, statistics and conversions follow the same rules."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.annotations import mutate
from vitdet_plugin.datasets.checks import whole_set
from vitdet_plugin.datasets.checks.annotations import check_annotations
from vitdet_plugin.datasets.checks.detection_data import check_dataset
from vitdet_plugin.datasets.coco import (
    annotation_box,
    image_file_name,
    image_size,
    index_by_id,
    leaves_folder,
    read_coco,
)
from vitdet_plugin.datasets.from_coco import read_objects, to_yolo
from vitdet_plugin.datasets.image_sets import read_coco_set
from vitdet_plugin.errors import UserError

NAN = float('nan')


@pytest.fixture
def content():
    return dict(images=[dict(id=1, file_name='a.jpg', width=10, height=8)], categories=[dict(id=5, name='x')],
                annotations=[dict(id=1, image_id=1, category_id=5, bbox=[1, 2, 3, 4], area=12)])


@pytest.fixture
def path(tmp_path):
    (tmp_path / 'a.jpg').touch()
    return tmp_path / 'set.json'


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read_for_conversion(path):
    return read_objects(read_coco(path), path)


def read_for_statistics(path):
    return read_coco_set(path.parent, path)


READERS = (read_for_conversion, read_for_statistics)


def problem_texts(path):
    """Return the problems that a conversion lists."""
    return [problem.text for problem in read_for_conversion(path)[2]]


BROKEN_FILES = {
    '': 'the file is empty',
    '{"images": [],\n "categories": [}': 'not valid JSON: .* at line 2, column 17',
    '[' * 100000: 'not valid JSON',
    '[1, 2]': 'not a COCO file: .* found a list',
    '{}': "needs a list 'images' of objects",
    '{"images": [3], "categories": [], "annotations": []}': "needs a list 'images' of objects",
    '{"images": [{"id": 1}], "categories": {}, "annotations": []}': "needs a list 'categories' of objects",
    '{"images": [], "categories": [{"id": 1}], "annotations": []}': "the list 'images' is empty",
    '{"images": [{"id": 1}], "categories": [], "annotations": []}': "the list 'categories' is empty",
    '{"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": 3}': "needs a list 'annotations'",
}


@pytest.mark.parametrize('text', BROKEN_FILES, ids=lambda text: text[:20])
def test_a_broken_file_is_one_line_that_names_it_everywhere(path, text):
    write(path, text)
    for read in READERS:
        with pytest.raises(UserError, match=BROKEN_FILES[text]) as caught:
            read(path)
        assert str(caught.value).startswith(f'{path}: ') and '\n' not in str(caught.value)
    assert whole_set.check_coco_set(str(path), str(path.parent)) == [
        ('error', 'the annotation file cannot be read', str(caught.value))]
    (found,) = check_dataset('train', dict(type='CocoDataset', ann_file=str(path)), True)
    assert found.text == f'train.ann_file: {caught.value}'


def test_files_that_are_not_text_or_do_not_exist(path):
    path.write_bytes(b'\xff\xfe{')
    for read in READERS:
        with pytest.raises(UserError, match='set.json: not valid JSON: UTF-16 or UTF-32 text; save'):
            read(path)
        with pytest.raises(UserError, match='none.json does not exist'):
            read(path.with_name('none.json'))
        with pytest.raises(UserError, match='is a folder; give a COCO annotation file .* it holds set.json'):
            read(path.parent)


def test_only_conversions_need_annotations(path, content):
    del content['annotations']
    write(path, content)
    with pytest.raises(UserError, match="it needs a list 'annotations'"):
        read_for_conversion(path)
    assert read_for_statistics(path).objects == [[]]
    rows = whole_set.check_coco_set(str(path), str(path.parent))
    assert ('error', 'the file has no annotations', str(path)) in rows
    cfg = dict(type='CocoDataset', ann_file=str(path), data_prefix=dict(img=str(path.parent)),
               metainfo=dict(classes=('x',)))
    assert any('has no annotations' in finding.text for finding in check_dataset('train', cfg, is_training=True))
    assert not any('has no annotations' in finding.text for finding in check_dataset('test', cfg, is_training=False))


@pytest.mark.parametrize('key', ['images', 'categories'])
def test_ids_that_are_missing_invalid_or_occur_twice(path, content, key):
    what = dict(images='image', categories='category')[key]
    for entry, kind in ((dict(content[key][0]), 'ids that occur twice'), (dict(content[key][0], id=[1]), 'without an'),
                        (dict(content[key][0], id=True), 'without an id'), (dict(content[key][0], id=1.5), 'without')):
        broken = {**content, key: [*content[key], entry]}
        write(path, broken)
        for read in READERS:
            with pytest.raises(UserError, match=f'set.json: {what} .*{kind}'):
                read(path)
        assert any(fault.level == 'error' and kind in fault.kind for fault in check_annotations(broken))


def test_categories_need_names(path, content):
    content['categories'].append(dict(id=6, name=None))
    for read in READERS:
        with pytest.raises(UserError, match='categories without a name: number 1'):
            read(write(path, content))


@pytest.mark.parametrize(('change', 'text'), [
    (dict(image_id=9), 'annotation 1: image_id 9 is not in the file'),
    (dict(image_id=[1]), r'annotation 1: image_id \[1\] is not in the file'),
    (dict(category_id=1), 'annotation 1: category_id 1 is not in the file'),
    (None, 'annotation number 0: expected an object, found NoneType')])
def test_annotations_without_a_valid_image_or_category(path, content, change, text):
    content['annotations'][0] = change and {**content['annotations'][0], **change}
    write(path, content)
    with pytest.raises(UserError, match=text):
        read_for_statistics(path)
    (problem,) = problem_texts(path)
    assert problem == text.replace('\\', '')


@pytest.mark.parametrize(('image', 'name'), [
    (dict(file_name='b/a.jpg', coco_url='http://x/train2017/1.jpg'), 'b/a.jpg'),
    (dict(coco_url='http://x/train2017/1.jpg'), 'train2017/1.jpg'),
    (dict(file_name='', coco_url='http://x/train2017/1.jpg'), None),  # mmdet reads file_name if the key exists
    (dict(file_name=None), None), (dict(file_name='a\0b'), None), (dict(coco_url=3), None), ({}, None)])
def test_file_names(path, content, image, name):
    assert image_file_name(image) == name
    content['images'] = [dict(id=1, width=10, height=8, **image)]
    write(path, content)
    kinds = [fault.kind for fault in check_annotations(content)]
    assert ('images without a file_name' in kinds) == (name is None)
    if name is None:
        assert problem_texts(path)[0] == 'image 1: no file_name'
        with pytest.raises(UserError, match='image 1 has no file_name'):
            read_for_statistics(path)
    else:
        images, classes, problems = read_for_conversion(path)
        assert problems == []
        assert list(to_yolo(images, classes, path.parent, 'val'))[2:] == [
            path.parent / 'labels/val' / name.replace('.jpg', '.txt')]


def test_file_names_outside_the_image_folder(path, content):
    assert [name for name in ('a.jpg', 'b/../a.jpg', '../a.jpg', 'b/../../a.jpg', '/a.jpg', 'C:\\a.jpg')
            if leaves_folder(name)] == ['../a.jpg', 'b/../../a.jpg', '/a.jpg', 'C:\\a.jpg']
    for name in ('../a.jpg', 'C:\\a.jpg'):
        content['images'][0]['file_name'] = name
        write(path, content)
        with pytest.raises(UserError, match='image 1: file_name .* points outside the image folder'):
            read_for_statistics(path)
        assert 'points outside the image folder' in problem_texts(path)[0]
        assert any('outside the image folder' in kind
                   for _, kind, _ in whole_set.check_coco_set(str(path), str(path.parent)))
    content['images'][0]['file_name'] = 'b/../a.jpg'  # stays inside
    (path.parent / 'b').mkdir()
    write(path, content)
    assert problem_texts(path) == [] and len(read_for_statistics(path)) == 1


@pytest.mark.parametrize(('width', 'is_valid'), [(10, True), (10.0, True), (0, False), ('ten', False), (None, False),
                                                 (True, False), (NAN, False), (10 ** 400, False), (2e6, False)])
def test_sizes(path, content, width, is_valid):
    content['images'][0]['width'] = width
    assert image_size(content['images'][0]) == ((width, 8) if is_valid else None)
    write(path, content)
    assert read_for_statistics(path).sizes == [(width, 8) if is_valid else None]
    texts = problem_texts(path)
    assert texts == [] if is_valid else texts[0].startswith('image 1: no width and height in pixels')


@pytest.mark.parametrize('box', [None, [1, 2, 3], ['x', 2, 3, 4], [NAN, 2, 3, 4], [1, 2, True, 4],
                                 [0, 0, 10 ** 400, 1]])
def test_boxes(path, content, box):
    content['annotations'][0]['bbox'] = box
    assert annotation_box(content['annotations'][0]) is None
    write(path, content)
    (text,) = problem_texts(path)
    assert text.startswith('annotation 1: bbox ') and 'not four finite numbers' in text
    assert 'error' in [fault.level for fault in check_annotations(content)]


def test_numbers_as_text_are_numbers(path, content):
    content['images'][0]['width'], content['annotations'][0]['bbox'] = '10', ['1', 2, '3', 4]
    write(path, content)
    assert read_for_statistics(path).sizes == [(10, 8)] and problem_texts(path) == []


@pytest.mark.parametrize('second', ['a.jpg', 'a.png'])
def test_images_that_would_share_a_converted_file(path, content, second):
    content['images'].append(dict(id=2, file_name=second, width=10, height=8))
    content['annotations'].append(dict(content['annotations'][0], id=2, image_id=2))
    texts = problem_texts(write(path, content))
    assert texts == [f"image 2: file_name '{second}' would be written to the same file as 'a.jpg', a; rename one of "
                     'the images', '1 annotations: their images cannot be converted']


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(['id', 'name']), st.one_of(
    st.integers(0, 3), st.text(max_size=2), st.none(), st.booleans(), st.lists(st.integers(), max_size=1))),
    max_size=6))
def test_every_entry_is_indexed_or_reported(entries):
    index, faults = index_by_id(entries, 'image')
    assert len(index) + len(faults) == len(entries)
    assert all(index[entry['id']]['id'] == entry['id'] for entry in index.values())


@settings(max_examples=100)
@given(seed=st.integers(0, 10 ** 9))
def test_mutated_files_never_crash_a_reader(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp('set')
    boxes = [[1, 2, 3, 4], [0, 0, 10, 8]]
    content = dict(images=[dict(id=1, file_name='a.jpg', width=10, height=8), dict(id=2, coco_url='http://x/b/c.jpg')],
                   categories=[dict(id=5, name='x'), dict(id=7, name='y')],
                   annotations=[dict(id=number, image_id=1, category_id=5, bbox=box, area=12, iscrowd=0,
                                     segmentation=[[1, 1, 9, 1, 9, 9]]) for number, box in enumerate(boxes)])
    path = write(folder / 'set.json', mutate(content, seed))
    for read in READERS:
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error) or str(folder) in str(error)
            assert '\n' not in str(error)
    assert all(len(row) == 3 for row in whole_set.check_coco_set(str(path), str(folder)))
