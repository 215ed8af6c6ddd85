"""Text files of YOLO in every usual layout, with and without data.yaml."""

import re

import pytest

from tests.datasets.formats.reading import (
    CAT,
    DOG,
    SIZE,
    assert_objects,
    objects,
    polygon,
    read,
    recognized,
    splits,
    write,
    write_image,
)
from vitdet_plugin.errors import UserError

NAMES = 'names: [cat, dog]\n'


def row(name, box, size=SIZE) -> str:
    """A row of a box."""
    x1, y1, x2, y2 = box
    w, h = size
    return f'{["cat", "dog"].index(name)} {(x1 + x2) / 2 / w:.6f} {(y1 + y2) / 2 / h:.6f} {(x2 - x1) / w:.6f} ' \
           f'{(y2 - y1) / h:.6f}\n'


def outline(name, points) -> str:
    """A row of a polygon."""
    label = ['cat', 'dog'].index(name)
    return ' '.join([f'{label}', *(f'{value / SIZE[i % 2]:.6f}' for i, value in enumerate(points))])


def yolo(root, images, labels, description=None, text=NAMES, suffix='.jpg'):
    """One image with both objects and one image without label file in each pair of folders."""
    for at, to in zip(images, labels):
        write_image(root / at / f'a{suffix}')
        write_image(root / at / f'empty{suffix}')
        write(root / to / 'a.txt', row(*CAT) + row(*DOG))
    if description:
        write(root / description, text)
    return root


@pytest.mark.parametrize(('images', 'labels'), [
    (['images/train', 'images/val'], ['labels/train', 'labels/val']),
    (['train/images', 'valid/images'], ['train/labels', 'valid/labels']),
    (['train', 'val'], ['train', 'val']), (['train', 'val'], ['train/labels', 'val/labels']),
    (['train', 'val'], ['labels/train', 'labels/val']), (['a/images/train2017', 'a/images/val2017'],
                                                       ['a/labels/train2017', 'a/labels/val2017'])])
@pytest.mark.parametrize('description', [None, 'data.yaml', 'train/classes.txt'])
def test_layouts(tmp_path, images, labels, description):
    yolo(tmp_path, images, labels, description, NAMES if description == 'data.yaml' else 'cat\ndog\n\n')
    write(tmp_path / 'README.txt', 'A set of cats.\n0 1 2 are numbers')
    found = read(tmp_path, 'yolo')
    expected = {f'{at}/{name}.jpg': rows for at in images for name, rows in (('a', [CAT, DOG]), ('empty', []))}
    if description is None:
        expected = {name: [({'cat': 'class 0', 'dog': 'class 1'}[each], box) for each, box in rows]
                    for name, rows in expected.items()}
    assert_objects(found, tmp_path, expected)
    assert found.classes == (['cat', 'dog'] if description else ['class 0', 'class 1']) and not found.problems
    assert [splits(found, tmp_path)[f'{at}/a.jpg'] for at in images] == ['train', 'val']
    assert any(note.startswith('2 images have no objects, 2 of them no label file') for note in found.notes)


@pytest.mark.parametrize(('images', 'labels'), [(['images'], ['labels']), ([''], ['']), (['photos'], ['yolo']),
                                                (['obj_train_data'], ['obj_train_data'])])
def test_layouts_without_splits(tmp_path, images, labels):
    yolo(tmp_path, images, labels, 'obj.names', 'cat\ndog\n')
    found = read(tmp_path, 'yolo')
    assert sorted(map(len, objects(found, tmp_path).values())) == [0, 2]
    assert {image.split for image in found.images} == {None} and found.classes == ['cat', 'dog']


@pytest.mark.parametrize('text', [
    'train: ../train/images\nval: ../valid/images\ntest: ../test/images\n', 'train: train/images\nval: valid/images\n',
    'path: ../datasets/cats\ntrain: train/images\nval: [valid/images]\n',
    'path: /home/someone/cats\ntrain: /home/someone/cats/train/images/\nval: ./valid\ntest:  # optional\n',
    'path: .\ntrain: [train\\images]\nval: valid/images/*.jpg\n'])
def test_paths_of_the_yaml(tmp_path, text):
    yolo(tmp_path, ['train/images', 'valid/images'], ['train/labels', 'valid/labels'], 'data.yaml', NAMES + text)
    for found in (read(tmp_path, 'yolo'), read(tmp_path / 'data.yaml', 'yolo')):
        assert splits(found, tmp_path) == {'train/images/a.jpg': 'train', 'train/images/empty.jpg': 'train',
                                           'valid/images/a.jpg': 'val', 'valid/images/empty.jpg': 'val'}
        assert not found.problems


@pytest.mark.parametrize('text', [
    'path: ..\ntrain: x/one\nval: x/two\n', 'path: ../x\ntrain: one\nvalidation: two\n',
    'train: ../x/one\nval: ../x/two\n', 'train: train.txt\nval: val.txt\n', ''])
def test_splits_of_folders_with_other_names(tmp_path, text):
    yolo(tmp_path, ['x/one', 'x/two'], ['x/one', 'x/two'], 'config/data.yaml', NAMES + text)
    write(tmp_path / 'train.txt', './x/one/a.jpg\nx/one/empty.jpg\n')
    write(tmp_path / 'val.txt', '/content/x/two/a.jpg\r\nx/two/empty.jpg')
    assert list(splits(read(tmp_path, 'yolo'), tmp_path).values()) == ['train', 'train', 'val', 'val']


def test_same_folder_for_both_splits_is_not_divided(tmp_path):
    yolo(tmp_path, ['images/train2017'], ['labels/train2017'], 'coco8.yaml',
         'path: coco8\ntrain: images/train2017\nval: images/train2017\nnames:\n  0: cat\n  1: dog\n')
    found = read(tmp_path, 'yolo')
    assert set(splits(found, tmp_path).values()) == {None} and found.classes == ['cat', 'dog']
    assert any('2 images are listed in several splits' in note for note in found.notes)


def test_yaml_next_to_the_folder_of_the_data(tmp_path):
    yolo(tmp_path / 'data/cats', ['images'], ['labels'])
    write(tmp_path / 'configs/cats.yaml', f'path: ../data/cats\ntrain: images\n{NAMES}')
    found = read(tmp_path / 'configs/cats.yaml', 'yolo')
    assert [image.split for image in found.images] == ['train', 'train'] and found.classes == ['cat', 'dog']


@pytest.mark.parametrize('lines, named', [
    ('path: ../data\ntrain: images/train\nval: images/val\n', 'path: ../data, images/train, images/val'),
    ('', 'no train and no val')])
def test_a_yaml_whose_images_are_not_there_does_not_take_others(tmp_path, lines, named):
    yolo(tmp_path, ['else/images'], ['else/labels'])
    write(tmp_path / 'configs/cats.yaml', lines + NAMES)
    with pytest.raises(UserError, match=re.escape(f'cats.yaml names no images that exist ({named})')):
        read(tmp_path / 'configs/cats.yaml', 'yolo')


@pytest.mark.parametrize(('text', 'classes', 'note'), [
    ('nc: 2\nnames: ["cat", "dog"]', ['cat', 'dog'], ''), ('names: {0: cat, 1: dog}', ['cat', 'dog'], ''),
    ('names:\n  1: dog\n  0: cat', ['cat', 'dog'], ''), ('names:\n- yes\n- 012', ['yes', '012'], ''),
    ('nc: 3\nnames: [cat, dog]', ['cat', 'dog'], 'nc is 3, but names has 2'),
    ('nc: 2\ntrain: images', ['class 0', 'class 1'], 'no list of names'), ('names: {0: cat, 3: dog}', [
        'cat', 'class 1', 'class 2', 'dog'], ''), ('names: sub/my.names\nnc: 2', ['kat', 'hond'], ''),
    ('names: [猫, 狗]', ['猫', '狗'], '1 files are read as GBK')])
def test_names(tmp_path, text, classes, note):
    yolo(tmp_path, ['images'], ['labels'])
    write(tmp_path / 'sub/my.names', 'kat\nhond')
    write(tmp_path / 'data.yaml', text, 'gbk')
    found = read(tmp_path, 'yolo')
    assert found.classes == classes and not found.problems
    assert any(note in each for each in found.notes)


def test_polygons_boxes_and_oriented_boxes(tmp_path):
    """A row of nine numbers has four corners; the sides of a rotated image are those of the oriented image."""
    write_image(tmp_path / 'images/a.jpg', SIZE[::-1], orientation=6)
    corners = [50, 30, 60, 40, 50, 50, 40, 40]
    write(tmp_path / 'labels/a.txt', f'{outline("cat", polygon(CAT[1]))}\n{outline("dog", corners)}\n{row(*DOG)}')
    write(tmp_path / 'data.yaml', NAMES, 'utf-8-sig')
    found = read(tmp_path, 'yolo')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT, ('dog', (40, 30, 60, 50)), DOG]})
    masks = [each.mask for each in found.images[0].objects]
    assert masks[:2] == [[pytest.approx(polygon(CAT[1]), abs=0.01)], [pytest.approx(corners, abs=0.01)]]
    assert masks[2] is None


@pytest.mark.parametrize(('text', 'reason'), [
    ('0 0.5 0.5 0.2 0.2 0.87', '6 numbers;'), ('0 0.5 0.5 0.2 0.2 0.87', 'remove the sixth, a confidence'),
    ('7 0.5 0.5 0.2 0.2', 'class 7; there are 2'), ('0 50 40 20 20', 'is not relative to the image size'),
    ('0 0,5 0,5 0,2 0,2', 'write decimals with a point'), ('0 0.5 0.5 0 0.2', 'must be above 0'),
    ('0 1.4 0.5 0.2 0.2', 'has no area within the image'),
    ('0 0.5 0.5 0.2 0.2 0.1 0.1 0.3', 'for a box with keypoints, set kpt_shape in data.yaml'),
    ('0 0.5 0.5 0.6 0.6 0.7 0.2', '7 numbers; kpt_shape in data.yaml states 11'),
    (f'0{" 0.5" * 9}', '10 numbers; a box has 5'), (row(*CAT).strip(), 'the same as line 1')])
def test_rows_that_are_not_read_are_named(tmp_path, text, reason):
    write_image(tmp_path / 'images/a.jpg')
    write(tmp_path / 'labels/a.txt', f'{row(*CAT)}\n{text}\n')
    write(tmp_path / 'data.yaml', f'{NAMES}kpt_shape: [2, 3]\n')
    found = read(tmp_path, 'yolo')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT]})
    assert len(found.problems) == 1 and str(found.problems[0]).startswith(f'{tmp_path}/labels/a.txt:3: ')
    assert reason in str(found.problems[0])


def test_files_that_are_not_read_are_named(tmp_path):
    yolo(tmp_path, ['images'], ['labels'], 'data.yaml')
    write_image(tmp_path / 'images/a.png')
    write_image(tmp_path / 'masks/a.png')
    write(tmp_path / 'images/broken.jpg', '')
    write(tmp_path / 'labels/gone.txt', row(*CAT))
    write(tmp_path / 'labels/nothing.txt', '')
    write(tmp_path / 'requirements.txt', 'numpy\n')
    found = read(tmp_path, 'yolo')
    texts = sorted(str(each) for each in found.problems)
    assert len(texts) == 3 and texts[0] == f'{tmp_path}/images/broken.jpg: the image is empty'
    assert 'labels/a.txt: belongs to images/a.jpg and to images/a.png; rename one of the images' in texts[1]
    assert 'labels/gone.txt: no image of this name below' in texts[2]
    assert any('1 images have no label file and are in none of the folders' in note for note in found.notes)


@pytest.mark.parametrize(('name', 'text'), [
    ('a.txt', 'a photo of a cat'), ('a.txt', 'Car 0.00 0 1.5 10 20 30 40 1 2'), ('a.txt', '10 20 30 40 1'),
    ('a.txt', ''), ('b.txt', row(*CAT)), ('data.yaml', NAMES), ('train.txt', 'a.jpg\n'), ('a.txt', '0 1\n')])
def test_other_text_files_are_not_recognized(tmp_path, name, text):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / name, text)
    assert recognized(tmp_path) == []


def test_images_outside_the_splits_of_the_yaml_are_left_out(tmp_path):
    """An export that was split again keeps the first copies of its images, which would leak into training."""
    yolo(tmp_path, ['split/train/images', 'split/val/images', 'train/images'],
         ['split/train/labels', 'split/val/labels', 'train/labels'], 'data.yaml',
         NAMES + 'train: ./split/train/images\nval: ./split/val/images\n')
    found = read(tmp_path, 'yolo')
    assert splits(found, tmp_path) == {
        'split/train/images/a.jpg': 'train', 'split/train/images/empty.jpg': 'train',
        'split/val/images/a.jpg': 'val', 'split/val/images/empty.jpg': 'val'}
    assert sum('left out' in note for note in found.notes) == 1
    assert any(note.startswith('2 images with labels are in no split of data.yaml') for note in found.notes)


@pytest.mark.parametrize(('keypoints', 'shape'), [
    ('0.1 0.1 2 0.2 0.2 1 0.3 0.3 0', None), ('0.1 0.1 0 0.2 0.2 0 0 0 0', None), ('0.1 0.1 2 0.2 0.2 1', None),
    ('0.1 0.1 1 0.2 0.2 1', '[2, 3]'), ('0.1 0.1 0.2 0.2', '[2, 2]')])
def test_boxes_with_keypoints_are_read_without_them(tmp_path, keypoints, shape):
    write_image(tmp_path / 'images/a.jpg')
    write(tmp_path / 'labels/a.txt', f'{row(*CAT).strip()} {keypoints}\n{row(*DOG)}')
    write(tmp_path / 'data.yaml', NAMES + (f'kpt_shape: {shape}\n' if shape else ''))
    found = read(tmp_path, 'yolo')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT, DOG]})
    assert not found.problems and found.images[0].objects[0].mask is None
    assert any('1 boxes are followed by keypoints' in note for note in found.notes)


def test_a_polygon_with_values_0_and_1_is_not_a_box_with_keypoints(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    write(tmp_path / 'labels/a.txt', '0 0 0 1 0 1 1 0 1 0 0.5\n')
    write(tmp_path / 'data.yaml', NAMES)
    assert read(tmp_path, 'yolo').images[0].objects[0].mask is not None
