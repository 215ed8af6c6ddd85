"""Findings about whole data sets that are not covered by the tests of the command."""

import json
import shutil

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import write_tiny_set
from vitdet_plugin.datasets.checks.whole_set import check_class_folders, check_coco_set
from vitdet_plugin.datasets.image_sets import open_image_sets


def test_hidden_files_are_skipped_by_checks_and_statistics(tmp_path):
    """mmpretrain skips hidden files, but not hidden folders; macOS writes files like ._00.png."""
    root = write_class_folders(tmp_path / 'set', per_class=2, suffixes=('.png',))
    (root / 'Maize/._00.png').write_bytes(b'metadata')
    (root / 'Maize/.DS_Store').write_bytes(b'metadata')
    (root / 'Maize/notes.txt').write_text('x')
    rows = [('warning', 'files that are not images by their suffix', str(root / 'Maize/notes.txt'))]
    summary, *found = check_class_folders(str(root))
    assert summary == ('read', str(root), '3 folders of classes, 6 images') and found == rows
    assert open_image_sets(root)[0].other_files == ['Maize/notes.txt'] and len(open_image_sets(root)[0]) == 6
    hidden = root / 'Maize/.ipynb_checkpoints'
    hidden.mkdir()
    shutil.copy(root / 'Maize/00.png', hidden)
    assert check_class_folders(str(root))[1:] == [
        *rows, ('warning', 'hidden folders in a class, whose images mmpretrain reads', str(hidden))]
    assert open_image_sets(root)[0].classes == list(CLASSES) and len(open_image_sets(root)[0]) == 6


def test_invalid_file_names_are_reported_and_not_opened(tmp_path):
    write_tiny_set(tmp_path, images=3)
    content = json.loads((tmp_path / 'coco.json').read_text())
    content['images'][0]['file_name'] = ''
    content['images'][1].update(file_name='../images/002.jpg', width=64.0)
    content['images'][2]['width'] = 65.0
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    errors = [row[1:] for row in check_coco_set(str(tmp_path / 'coco.json'), str(tmp_path / 'images'))
              if row[0] == 'error']
    assert errors == [
        ('images without a file_name', 'image 1'),
        ('file names that point outside the image folder', 'image 2: ../images/002.jpg'),
        ('image has another size than annotated', f'{tmp_path}/images/003.jpg 64 x 64, annotated 65 x 64')]


def test_an_image_that_is_listed_twice(tmp_path):
    write_tiny_set(tmp_path, images=1)
    content = json.loads((tmp_path / 'coco.json').read_text())
    content['images'].append(dict(content['images'][0], id=2))
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    rows = check_coco_set(str(tmp_path / 'coco.json'), str(tmp_path / 'images'))
    assert ('warning', 'images that are listed twice', 'image 2: 001.jpg') in rows


def test_backslashes_in_file_names(tmp_path):
    write_tiny_set(tmp_path, images=1)
    content = json.loads((tmp_path / 'coco.json').read_text())
    content['images'][0]['file_name'] = 'x\\001.jpg'
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    assert ('error', 'file names with \\, which is not a separator here; write /', 'image 1: x\\001.jpg') in \
        check_coco_set(str(tmp_path / 'coco.json'), str(tmp_path / 'images'))
