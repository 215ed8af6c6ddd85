"""Masks with the names of their images in the same folders, gray photographs, blurred masks, empty masks."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.reading import read
from vitdet_plugin.datasets.formats import mask_files
from vitdet_plugin.datasets.formats.mask_values import read_values
from vitdet_plugin.datasets.formats.tree import FileTree


def _write(folder, index, box=None, blurred=False):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(index)
    smooth = cv2.GaussianBlur(random.normal(size=(60, 80)), (0, 0), 2)
    photo = np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)
    Image.fromarray(photo).save(folder / f'exp{index}_num_{index * 7}.jpg')
    mask = np.zeros((60, 80), np.uint8)
    if box:
        x1, y1, x2, y2 = box
        mask[y1:y2, x1:x2] = 255
    if blurred:
        mask = cv2.GaussianBlur(mask, (0, 0), 1)
    Image.fromarray(mask).save(folder / f'exp{index}_num_{index * 7}.png')


@pytest.fixture
def folder(tmp_path):
    for index in range(12):
        name = ('Blowhole', 'Crack', 'Free')[index % 3]
        box = None if name == 'Free' else (10 + index, 12, 40 + index, 30)
        _write(tmp_path / name / 'Imgs', index, box, blurred=index % 2 == 0)
    return tmp_path


def test_the_class_of_an_object_is_the_folder(folder):
    found = read(folder, 'mask-png')
    assert len(found.images) == 12 and found.problems == []
    assert dict(found.count_objects()) == {'Blowhole': 4, 'Crack': 4}
    for image in found.images:
        if image.objects:
            index = int(image.path.stem.split('_')[0][3:])
            np.testing.assert_allclose(image.objects[0].box, (10 + index, 12, 40 + index, 30), atol=1)
    assert any('the class of an object is the folder of its image' in note for note in found.notes)


def test_class_folders_leave_the_masks_out(folder):
    found = read(folder, 'class-folders', 'class-folders')
    assert dict(found.count_objects()) == {'Blowhole': 4, 'Crack': 4, 'Free': 4}
    assert {image.path.suffix for image in found.images} == {'.jpg'}
    assert [note for note in found.notes if note.startswith('12 files are masks of the images next to them')]
    assert not [note for note in found.notes if 'have no class' in note]


@pytest.mark.parametrize('names', [('scene1', 'scene2'), ('train', 'val')])
def test_folders_of_scenes_and_splits_are_not_classes(tmp_path, names):
    for index in range(8):
        _write(tmp_path / names[index % 2], index, (10, 12, 40, 30))
    assert dict(read(tmp_path, 'mask-png').count_objects()) == {'object': 8}


def test_blurred_edges_are_rounded_and_values_of_objects_are_not(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[10:14, 10:16] = 255  # a small object: half of it are edges
    Image.fromarray(cv2.GaussianBlur(mask, (0, 0), 0.7)).save(tmp_path / 'a.png')
    codes = read_values(tmp_path / 'a.png').codes
    assert set(np.unique(codes)) == {0, 255} and abs(int((codes > 0).sum()) - 24) <= 8
    objects = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((3, 3), np.uint8))
    Image.fromarray(objects).save(tmp_path / 'b.png')
    assert (read_values(tmp_path / 'b.png').codes == objects).all()


def test_a_file_is_read_once_however_many_folders_have_its_name(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for index in range(12):
        (tmp_path / f'class {index}').mkdir()
        for number in range(4):
            photo = random.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(photo).save(tmp_path / f'class {index}' / f'{number}.png')
    opened = []
    monkeypatch.setattr(mask_files.Image, 'open', lambda path, real=Image.open: opened.append(path) or real(path))
    assert mask_files.masks_by_content(FileTree(tmp_path)) == []
    assert len(set(opened)) == 48 and len(opened) == 2 * 48  # by the mode, and for the values
