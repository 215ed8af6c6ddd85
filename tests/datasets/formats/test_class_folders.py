"""Folders of classes, and lists of paths and labels."""

import pytest

from tests.datasets.formats.reading import read, recognized, splits, write, write_image
from vitdet_plugin.datasets.formats import recognize
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.errors import UserError


def labels(found, root) -> dict:
    return {image.path.relative_to(root).as_posix(): image.label for image in found.images}


@pytest.mark.parametrize('top', ['', 'archive/data/'])
@pytest.mark.parametrize('folders', [[''], ['train/', 'val/'], ['Training/', 'valid/', 'test/'], ['train2017/']])
def test_folders(tmp_path, top, folders):
    for folder in folders:
        for name in ('Fat Hen', 'Maize'):
            write_image(tmp_path / top / folder / name / '1.JPG')
        write_image(tmp_path / top / folder / 'Maize/sub/2.png')
    write(tmp_path / 'README.md', 'text')
    write(tmp_path / 'Thumbs.db', '')
    found = read(tmp_path, 'class-folders')
    assert labels(found, tmp_path) == {f'{top}{folder}{path}': path.split('/')[0] for folder in folders for path in (
        'Fat Hen/1.JPG', 'Maize/1.JPG', 'Maize/sub/2.png')}
    assert found.classes == ['Fat Hen', 'Maize'] and not found.problems
    expected = {'': None, 'train/': 'train', 'val/': 'val', 'Training/': 'train', 'valid/': 'val', 'test/': 'test',
                'train2017/': 'train'}
    assert {image.split for image in found.images} == {expected[folder] for folder in folders}


def test_images_without_class_are_noted_and_broken_ones_are_problems(tmp_path):
    for name in ('10', '9'):
        write_image(tmp_path / f'train/{name}/1.jpg')
    write_image(tmp_path / 'test_unlabelled/1.jpg')
    write_image(tmp_path / 'test/2.jpg')
    write(tmp_path / 'train/9/broken.jpg', 'x')
    found = read(tmp_path, 'class-folders')
    assert found.classes == ['9', '10'] and len(found.images) == 2
    broken = f'{tmp_path}/train/9/broken.jpg: the image has no known image format'
    assert [str(each) for each in found.problems] == [broken]
    assert found.notes == ['2 images have no class and are left out: test/2.jpg, test_unlabelled/1.jpg']


def test_class_with_the_name_of_other_folders(tmp_path):
    for path in ('mask/1.png', 'no_mask/1.png'):
        write_image(tmp_path / path)
    assert read(tmp_path, 'class-folders').classes == ['mask', 'no_mask']


def test_image_next_to_the_folders_and_splits_in_each_class(tmp_path):
    write_image(tmp_path / 'preview.png')
    for name in ('cat', 'dog'):
        write_image(tmp_path / f'data/{name}/train/1.jpg')
        write_image(tmp_path / f'data/{name}/val/1.jpg')
    found = read(tmp_path, 'class-folders')
    assert found.classes == ['cat', 'dog'] and found.notes == ['1 images have no class and are left out: preview.png']
    assert [image.split for image in found.images] == ['train', 'val'] * 2


@pytest.mark.parametrize(('names', 'separator', 'classes'), [
    (None, ' ', ['x', 'y']), ('cat\ndog\ncow\n', ' ', ['cat', 'dog', 'cow']), ('0 cat\n1 dog', '\t', ['cat', 'dog']),
    ('n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n', ',', [
        'tench', 'crane (n02012849)', 'crane (n03126707)'])])
def test_lists(tmp_path, names, separator, classes):
    for path in ('x/1 a.jpg', 'x/2.jpg', 'y/1 a.jpg'):
        write_image(tmp_path / 'images' / path)
    write(tmp_path / 'train.txt', separator.join(('x/1 a.jpg', '0\n')) + separator.join(('y/1 a.jpg', '1\n')))
    write(tmp_path / 'meta/val.txt', separator.join(('images/x/2.jpg', '0')))
    if names:
        write(tmp_path / 'classes.txt', names)
    found = read(tmp_path, 'class-folders')
    assert labels(found, tmp_path) == {'images/x/1 a.jpg': classes[0], 'images/x/2.jpg': classes[0],
                                       'images/y/1 a.jpg': classes[1]}
    assert found.classes == classes and not found.problems
    assert sorted(splits(found, tmp_path).values()) == ['train', 'train', 'val']


def test_lists_with_names_and_faults(tmp_path):
    for name in '12':
        write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'train.txt', '1.jpg cat\n2.jpg big dog\n1.jpg cow\n3.jpg cat\n2.jpg big dog\n')
    found = read(tmp_path, 'class-folders')
    assert labels(found, tmp_path) == {'1.jpg': 'cat', '2.jpg': 'big dog'} and found.notes == [
        '1 lines repeat an image and count once']
    assert [str(each).partition('train.txt')[2][:2] for each in found.problems] == [':4', ':3']


def test_the_encoding_of_lists_is_noted(tmp_path):
    for name in '12':
        write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'list.txt', '1.jpg 奥迪\n2.jpg 丰田\n', 'gbk')
    found = read(tmp_path, 'class-folders')
    assert found.classes == ['丰田', '奥迪'] and found.notes == ['1 files are read as GBK: list.txt']


def test_names_are_those_of_the_folders_of_train_if_val_is_flat(tmp_path):
    for path in ('train/n01440764/x.JPEG', 'train/n01443537/y.JPEG', 'val/a.JPEG', 'val/b.JPEG'):
        write_image(tmp_path / path)
    write(tmp_path / 'meta/train.txt', 'n01440764/x.JPEG 0\nn01443537/y.JPEG 1\n')
    write(tmp_path / 'meta/val.txt', 'a.JPEG 1\nb.JPEG 0\n')
    found = read(tmp_path, 'class-folders')
    assert found.classes == ['n01440764', 'n01443537'] and not found.problems
    assert labels(found, tmp_path)['val/a.JPEG'] == 'n01443537'


def test_labels_without_names_are_numbered(tmp_path):
    for name in '12':
        write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'list.txt', '1.jpg 0\n2.jpg 10\n')
    found = read(tmp_path, 'class-folders')
    assert found.classes == ['class 0', 'class 10'] and any('some are numbered' in note for note in found.notes)


def test_synset_folders_are_named(tmp_path):
    for name in ('n01440764', 'n01443537'):
        write_image(tmp_path / f'train/{name}/{name}_1.JPEG')
    write(tmp_path / 'LOC_synset_mapping.txt', 'n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus')
    assert read(tmp_path, 'class-folders').classes == ['tench', 'goldfish']


@pytest.mark.parametrize('paths', [
    ['1.jpg', '2.jpg'], ['images/1.jpg', 'masks/1.png'], ['train/images/1.jpg', 'val/images/1.jpg'],
    ['JPEGImages/1.jpg', 'SegmentationClass/1.png'], ['train/1.jpg', 'val/2.jpg'],
    ['cells/img/t1.jpg', 'cells/gt/seg1.png', 'nuclei/img/t1.jpg', 'nuclei/gt/seg1.png']])
def test_other_folders_are_not_recognized(tmp_path, paths):
    for path in paths:
        write_image(tmp_path / path)
    assert recognized(tmp_path) == []
    with pytest.raises(UserError, match=r'is not a data set of a known format \(. images, 0 other'):
        recognize(FileTree(tmp_path))


def test_an_empty_folder_is_one_line(tmp_path):
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    with pytest.raises(UserError, match='has no files that a data set could consist of; give the folder') as caught:
        recognize(FileTree(tmp_path / 'a'))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['a.tfrecord', 'annotations.json'])
def test_folders_next_to_a_folder_without_images_are_other_data(tmp_path, name):
    for other in ('cats', 'dogs'):
        write_image(tmp_path / other / '1.jpg')
    write(tmp_path / 'mine' / name, '{}')
    assert recognize(FileTree(tmp_path))[0].name == 'class-folders'
    with pytest.raises(UserError, match=r'mine is not a data set of a known format \(0 images, 1 other files'):
        recognize(FileTree(tmp_path / 'mine'))


def test_lists_of_images_and_their_masks_are_not_lists_of_labels(tmp_path):
    for name in ('train/a.png', 'trainannot/a.png'):
        write_image(tmp_path / name)
    write(tmp_path / 'train.txt', '/train/a.png /trainannot/a.png\n')
    assert 'class-folders' not in recognized(tmp_path)


@pytest.mark.parametrize('top', ['', 'train/'])
def test_a_single_class_folder_is_named(tmp_path, top):
    write_image(tmp_path / top / 'red/1.png')
    write_image(tmp_path / top / 'red/2.png')
    write(tmp_path / 'README.md', 'text')
    with pytest.raises(UserError, match='it has one folder of images, red, but a classifier needs a folder'):
        recognize(FileTree(tmp_path))
