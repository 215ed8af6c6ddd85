"""Content of other formats is not recognized as one of these."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.known_pixels import write_image, write_json
from vitdet_plugin.datasets.formats import cvat, label_studio, labelme, mask_png, supervisely, via
from vitdet_plugin.datasets.formats.tree import FileTree

FORMATS = (labelme.FORMAT, via.FORMAT, cvat.FORMAT, label_studio.FORMAT, supervisely.FORMAT, *mask_png.FORMATS)
COCO = dict(images=[dict(id=1, file_name='a.jpg', width=200, height=160)], categories=[dict(id=1, name='cat')],
            annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 3, 4])], info=dict(version='1.0'))
VOC = '<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>'


@pytest.mark.parametrize(('name', 'text'), [
    ('coco.json', json.dumps(COCO)), ('results.json', json.dumps(COCO['annotations'])),
    ('package.json', '{"name": "x", "images": ["a.jpg"], "shapes": 3, "annotations": []}'),
    ('meta.json', '{"classes": ["cat"], "version": "1.0"}'), ('meta.json', '{"classes": [{"title": "cat"}]}'),
    ('list.json', '["a.jpg"]'), ('empty.json', ''), ('empty.json', '[]'), ('empty.json', '{}'),
    ('bad.json', '{"shapes"'),
    ('deep.json', '[' * 100000), ('data.json', '[{"data": {"image": "a.jpg"}}]'),
    ('data.json', '[{"image": "a.jpg", "label": "cat"}]'), ('via3.json', '{"project": {}, "metadata": {}, "file": {}}'),
    ('a.xml', VOC), ('a.xml', '<annotations></annotations>'), ('a.csv', 'filename,xmin,ymin\na.jpg,1,2'),
    ('labels/a.txt', '0 0.5 0.5 0.1 0.1'), ('ann/a.json', '{"objects": [], "size": 3}'), ('x.json', '\x00\x01\xff')])
def test_one_file(tmp_path, name, text):
    write_image(tmp_path / 'images/a.jpg')
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(text.encode('latin-1'))
    for path in (tmp_path, tmp_path / name):
        assert [each.name for each in FORMATS if each.recognize(FileTree(path))] == []


@pytest.mark.parametrize('names', [('cat/1.png', 'dog/1.png'), ('masks/1.png', 'no_masks/1.png'),
                                   ('train/cat/1.png', 'train/dog/2.png'), ('a.png', 'a_mask.png')])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_class_folders_of_photographs(tmp_path, names, mode):
    for name in names:
        with Image.open(write_image(tmp_path / name)) as image:
            image.convert(mode).save(tmp_path / name)
    assert [each.name for each in FORMATS if each.recognize(FileTree(tmp_path))] == []


def test_empty_folder(tmp_path):
    assert [each.name for each in FORMATS if each.recognize(FileTree(tmp_path))] == []


def test_few_files_are_read_to_recognize_a_large_folder(tmp_path, monkeypatch):
    write_image(tmp_path / 'a.jpg')
    for number in range(200):
        write_json(tmp_path / f'{number:03}.json', dict(shapes=[], imagePath='a.jpg'))
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f'{number:03}_mask.png')
    opened = []
    from vitdet_plugin.datasets.formats import files
    load = files.load_json
    monkeypatch.setattr(files, 'load_json', lambda tree, file: opened.append(file) or load(tree, file))
    for each in FORMATS:
        each.recognize(FileTree(tmp_path))
    assert 0 < len(opened) < 50
