"""Text files of KITTI, DOTA and WIDER FACE written by hand."""

import pytest

from tests.datasets.formats.reading import CAT, DOG, assert_objects, read, splits, write, write_image


def kitti(name, box, score=''):
    numbers = ' '.join(f'{value:.2f}' for value in box)
    return f'{name} 0.00 0 -1.58 {numbers} 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59{score}\n'


def test_kitti(tmp_path):
    for path in ('training/image_2/0.png', 'training/image_2/1.png', 'training/image_3/0.png', 'testing/image_2/0.png'):
        write_image(tmp_path / path)
    write(tmp_path / 'training/calib/0.txt', 'P0: 7.2e+02 0.0 6.1e+02\n')
    write(tmp_path / 'training/label_2/0.txt', kitti(*CAT) + kitti(*DOG, ' 0.5') +
          kitti('DontCare', (1, 1, 5, 5)) + kitti('cat', (200, 1, 220, 5)) + 'cat 1 2\n')
    write(tmp_path / 'training/label_2/1.txt', '')
    write(tmp_path / 'training/label_2/2.txt', kitti(*CAT))
    found = read(tmp_path, 'kitti')
    assert_objects(found, tmp_path, {'training/image_2/0.png': [CAT, DOG], 'training/image_2/1.png': []})
    assert found.classes == ['cat', 'dog'] and set(splits(found, tmp_path).values()) == {'train'}
    words = ('has no area within', 'expected a class and 14 numbers', '2 is not below')
    assert len(found.problems) == 3 and all(word in str(each) for word, each in zip(words, found.problems))
    assert any('1 regions "DontCare"' in note for note in found.notes)


def test_kitti_of_the_tao_toolkit_and_class_names_of_two_words(tmp_path):
    write_image(tmp_path / 'train/images/a.b.jpg')
    write(tmp_path / 'train/labels/a.b.txt', kitti(*CAT).replace('cat', 'wild cat', 1))
    found = read(tmp_path, 'kitti')
    assert_objects(found, tmp_path, {'train/images/a.b.jpg': [('wild cat', CAT[1])]})


@pytest.mark.parametrize('header', ['', 'imagesource:GoogleEarth\ngsd:0.1463\n', "'imagesource':GF-2\n'gsd':null\n"])
def test_dota(tmp_path, header):
    for split in ('train', 'val'):
        write_image(tmp_path / split / 'images/P1.png')
        write_image(tmp_path / split / 'images/P2.png')
        write(tmp_path / split / 'labelTxt/P1.txt', f'{header}30.0 10.0 50.0 30.0 30.0 50.0 10.0 30.0 small-vehicle 1\n'
                                                    '10 20 40 20 40 60 10 60 cat 0\n')
        write(tmp_path / split / 'labelTxt/P2.txt', header + 'one two\n')
    found = read(tmp_path, 'dota')
    expected = [('small-vehicle', (10, 10, 50, 50)), CAT]
    assert_objects(found, tmp_path, {f'{split}/images/{name}.png': expected if name == 'P1' else []
                                     for split in ('train', 'val') for name in ('P1', 'P2')})
    assert [each.is_difficult for each in found.images[0].objects] == [True, False]
    assert all(each.mask for each in found.images[0].objects) and len(found.problems) == 2
    assert set(splits(found, tmp_path).values()) == {'train', 'val'}


@pytest.mark.parametrize('name', ['a', 'train_1'])
def test_dota_with_upright_boxes_has_no_masks(tmp_path, name):
    write_image(tmp_path / f'images/{name}.png')
    write(tmp_path / f'labelTxt/{name}.txt', '10, 20, 40, 20, 40, 60, 10, 60, cat, 0\n')
    found = read(tmp_path, 'dota')
    assert_objects(found, tmp_path, {f'images/{name}.png': [CAT]})
    assert found.images[0].objects[0].mask is None


def test_wider_face(tmp_path):
    for split, count in (('train', 3), ('val', 1)):
        for number in range(count):
            write_image(tmp_path / f'WIDER_{split}/images/0--Parade/0_Parade_{split}_{number}.jpg')
        write(tmp_path / f'wider_face_split/wider_face_{split}_bbx_gt.txt', ''.join([
            f'0--Parade/0_Parade_{split}_0.jpg\n2\n10 20 30 40 0 0 0 0 0 0 \n50 30 40 40 0 0 0 1 0 0 \n',
            f'0--Parade/0_Parade_{split}_1.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n',
            f'0--Parade/0_Parade_{split}_2.jpg\n2\n10 20 30 40 0 0 0 0 0 0 \n5 5 0 0 0 0 0 0 0 0 \n'][:count]))
        write(tmp_path / f'wider_face_split/wider_face_{split}.mat', 'MATLAB 5.0')
    write(tmp_path / 'wider_face_split/readme.txt', 'Attached the mappings between attribute names and label values.\n')
    found = read(tmp_path, 'wider-face')
    two = [('face', CAT[1]), ('face', (50, 30, 90, 70))]
    train, val = (f'WIDER_{split}/images/0--Parade/0_Parade_{split}' for split in ('train', 'val'))
    assert_objects(found, tmp_path, {f'{train}_0.jpg': two, f'{train}_1.jpg': [], f'{train}_2.jpg': two[:1],
                                     f'{val}_0.jpg': two})
    assert [each.is_difficult for each in found.images[0].objects] == [False, True]
    assert len(found.problems) == 1 and '5, 5' in str(found.problems[0])
    assert set(splits(found, tmp_path).values()) == {'train', 'val'}
