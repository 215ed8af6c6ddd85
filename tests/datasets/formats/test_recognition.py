"""Each format recognizes its own samples and refuses those of the others; mixed folders name all formats."""

import json
import unicodedata
from pathlib import PurePosixPath

import pytest

from tests.datasets.formats.reading import read, recognized, write, write_image
from tests.datasets.formats.samples import DOUBTFUL_SAMPLES, SAMPLES, write_sample
from vitdet_plugin.datasets.formats import known_formats, recognize
from vitdet_plugin.datasets.formats.tree import FileTree, split_of
from vitdet_plugin.errors import UserError


@pytest.mark.parametrize('name', SAMPLES)
def test_sample_is_recognized_by_its_format_alone(tmp_path, name):
    expected, images, files = SAMPLES[name]
    write_sample(tmp_path, images, files)
    assert recognized(tmp_path) == [expected]
    found = read(tmp_path, expected)
    assert found.format == expected and found.classes[:1] == ['cat'] and not found.problems
    found_objects = [image.label or image.objects[0].box for image in found.images]
    assert found_objects in (['cat'], ['cat', 'dog'], [pytest.approx((10, 20, 40, 60))])


@pytest.mark.parametrize('name', DOUBTFUL_SAMPLES)
def test_doubtful_sample_is_recognized_if_nothing_else_is(tmp_path, name):
    expected, images, files = DOUBTFUL_SAMPLES[name]
    write_sample(tmp_path, images, files)
    assert recognized(tmp_path) == []
    assert read(tmp_path, expected).is_classification
    write_sample(tmp_path, *SAMPLES['voc'][1:])
    assert recognize(FileTree(tmp_path))[0].name == 'voc'


@pytest.mark.parametrize('name', ['voc', 'csv', 'yolo'])
def test_mixed_folder_names_all_formats(tmp_path, name):
    _, images, files = SAMPLES['coco']
    write_sample(tmp_path, images, json.loads(json.dumps(files).replace('"cat"', '"dog"')))
    write_sample(tmp_path, *SAMPLES[name][1:])
    with pytest.raises(UserError, match=rf'several formats that differ \(.*\): coco \(1 .*\); {name} \(.*--format'):
        recognize(FileTree(tmp_path))
    for chosen in ('coco', name):
        assert len(read(tmp_path, chosen, chosen).count_objects()) == 1
    assert read(tmp_path / 'annotations', 'coco').format == 'coco'


@pytest.mark.parametrize('name', ['yolo', 'voc', 'csv'])
def test_foreign_json_files_are_not_taken_for_coco(tmp_path, name):
    """Files of LabelMe, results of a model, and a COCO file of other images."""
    expected, images, files = SAMPLES[name]
    write_sample(tmp_path, images, files)
    write(tmp_path / 'a.json', dict(shapes=[], imagePath='a.jpg', imageData=None))
    write(tmp_path / 'results.json', [dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4], score=0.5)])
    write(tmp_path / 'other.json', dict(images=[dict(id=1, file_name='z.jpg')], annotations=[],
                                        categories=[dict(id=1, name='cat')]))
    assert read(tmp_path, expected).classes == ['cat']


def test_nothing_is_found(tmp_path):
    """The message lists every format, and a file that is broken."""
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'train.json', '{"images": [')
    write(tmp_path / 'data.zip', '')
    with pytest.raises(UserError) as caught:
        recognize(FileTree(tmp_path))
    text = str(caught.value)
    assert '(1 images, 2 other files; train.json is not valid JSON (Expecting value' in text
    assert '; data.zip is an archive: give it in place of the folder, or unpack it first)' in text
    assert all(f'\n  {each.name}: {each.looks_for}' in text for each in known_formats())
    with pytest.raises(UserError, match='gone does not exist; give a folder'):
        FileTree(tmp_path / 'gone')
    with pytest.raises(UserError, match='--format cocoa: not one of coco, '):
        recognize(FileTree(tmp_path), 'cocoa')


@pytest.mark.parametrize(('path', 'split'), [
    ('train/a.jpg', 'train'), ('x/val2017/a.jpg', 'val'), ('valid/images/a.jpg', 'val'),
    ('instances_val2017.json', 'val'), ('_train.csv', 'train'), ('test/train.csv', 'test'),
    ('trainval.json', None), ('train_val.json', None),
    ('train.jpg', None), ('training_set/a.jpg', None), ('Test_1/a.xml', 'test')])
def test_split_of_a_path(path, split):
    assert split_of(PurePosixPath(path)) == split


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_names_of_macos_are_those_of_other_systems(tmp_path, form):
    """A letter with dots is one or two characters."""
    other = dict(NFC='NFD', NFD='NFC')[form]
    for name, folder in (('labelme', 'a'), ('yolo', 'b')):
        _, images, files = SAMPLES[name]
        named = [unicodedata.normalize(form, path.replace('a.jpg', 'Äpfel.jpg')) for path in images]
        files = {unicodedata.normalize(other, path.replace('a.txt', 'Äpfel.txt').replace('a.json', 'Äpfel.json')):
                 json.loads(unicodedata.normalize(other, json.dumps(content, ensure_ascii=False).replace(
                     'a.jpg', 'Äpfel.jpg'))) for path, content in files.items()}
        found = read(write_sample(tmp_path / folder, named, files), name)
        assert [len(image.objects) for image in found.images] == [1] and not found.problems


def test_images_are_found_by_what_names_them(tmp_path):
    for path in ('train/a.jpg', 'val/a.jpg', 'x/B.JPG', 'x/c.d.png', 'sub/x/B.JPG', 'x/e f.png'):
        write_image(tmp_path / path)
    (tmp_path / 'x/again').symlink_to(tmp_path, target_is_directory=True)
    tree = FileTree(tmp_path)
    assert len(tree.images) == 6

    def find(name, near='ann/f.json', split=None):
        found = tree.find_image(name, PurePosixPath(near), split)
        return found if isinstance(found, str) else found.relative_to(tmp_path).as_posix()
    assert find('a.jpg', 'train/f.json') == 'train/a.jpg' and find('a.jpg', split='val') == 'val/a.jpg'
    assert find('../val/a.jpg') == find('C:\\data\\val\\a.jpg') == find('http://host/val/a.jpg?x=1') == 'val/a.jpg'
    assert find('/data/e%20f.png') == 'x/e f.png'
    assert find('c.d') == find('c.d.jpg') == 'x/c.d.png' and find('sub/x/b.jpg') == 'sub/x/B.JPG'
    assert find('a.jpg') == 'a.jpg is the name of 2 images (train/a.jpg, val/a.jpg)'
    assert 'is not below' in find('../../etc/z.png') and find(' ') == find('..') == 'no image is named'
