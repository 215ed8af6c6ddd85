"""Masks as image files."""

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.known_pixels import (
    DONUT,
    HEIGHT,
    WIDTH,
    objects_of,
    pixels_of,
    read,
    texts,
    write_image,
    write_turned,
)
from vitdet_plugin.datasets.formats import mask_files, recognize
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.errors import UserError

SQUARE = np.zeros((HEIGHT, WIDTH), bool)
SQUARE[110:150, 150:190] = True
BAR = np.zeros((HEIGHT, WIDTH), bool)
BAR[5:15, :] = True
VALUES = (DONUT + 2 * SQUARE).astype(np.uint8)


def write_mask(path, values, mode='L', **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if mode == 'P':
        image = Image.fromarray(values.astype(np.uint8))
        image.putpalette([int(each) for each in np.random.default_rng(0).integers(0, 255, 768)])
    image.save(path, **options)


def masks_of(found, name=None):
    return [pixels_of(each.mask) for each in objects_of(found, name)]


def equal(found, expected):
    return len(found) == len(expected) and all((a == b).all() for a, b in zip(found, expected))


@pytest.mark.parametrize(('values', 'mode'), [(VALUES, 'L'), (VALUES, 'P'), (VALUES.astype(np.uint16) * 300, 'I;16')])
def test_pedestrians_with_a_value_for_each(tmp_path, values, mode):
    """The layout of Penn-Fudan."""
    for number, each in enumerate((values, values * (DONUT | SQUARE), np.where(values == values.max(), 0, values))):
        write_image(tmp_path / f'PNGImages/FudanPed{number}.png')
        write_mask(tmp_path / f'PedMasks/FudanPed{number}_mask.png', each, mode)
    (tmp_path / 'readme.txt').write_text('Penn-Fudan')
    found = read(tmp_path, 'mask-png')
    assert found.classes == ['object'] and not found.problems and len(found.images) == 3
    assert equal(masks_of(found, 'FudanPed0.png'), [DONUT, SQUARE]) and objects_of(found, 'FudanPed2.png')[0].box == (
        30, 20, 120, 100)
    assert any('a value is an object' in note and 'mask-png-semantic' in note for note in found.notes)
    assert not any('left out' in note for note in found.notes)


def test_a_folder_of_masks_of_one_object_each(tmp_path):
    """The layout of the Data Science Bowl 2018."""
    for name in ('0a', '1b'):
        write_image(tmp_path / f'stage1_train/{name}/images/{name}.png')
        for number, mask in enumerate((DONUT, SQUARE)):
            write_mask(tmp_path / f'stage1_train/{name}/masks/{name}{number}f.png', mask.astype(np.uint8) * 255)
    (tmp_path / 'stage1_train/0a/masks/0a0f.png').rename(tmp_path / 'stage1_train/0a/masks/1b.png')
    write_mask(tmp_path / 'stage1_train/0a/masks/z.png', np.zeros((HEIGHT, WIDTH), np.uint8))
    found = read(tmp_path, 'mask-png')
    assert equal(masks_of(found, '0a.png'), [SQUARE, DONUT]) and equal(masks_of(found, '1b.png'), [DONUT, SQUARE])
    text, = texts(found)
    assert text.startswith('z.png:') and 'encloses nothing' in text


def test_folders_with_the_name_of_the_image(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'images/{name}.jpg')
        for number, mask in enumerate((DONUT, SQUARE)):
            write_mask(tmp_path / f'masks/{name}/{number}.png', mask)
    assert equal(masks_of(read(tmp_path, 'mask-png'), 'a.jpg'), [DONUT, SQUARE])


@pytest.mark.parametrize('names', [('images/a.jpg', 'masks/a.png'), ('train/a.jpg', 'train_masks/a_mask.gif'),
                                   ('a.jpg', 'a_seg.png'), ('x/a.jpg', 'y/a.png'), ('x/a.jpg', 'x/a.png'),
                                   ('data/img/a.png', 'data/labels/a.png'), ('a.png', 'mask_a.png'),
                                   ('train/1_sat.jpg', 'train/1_mask.png'), ('train/a.png', 'trainannot/a.png'),
                                   ('images/img_3.png', 'masks/mask_3.png')])
@pytest.mark.parametrize('values', [(DONUT | SQUARE).astype(np.uint8) * 255, (DONUT | SQUARE).astype(np.uint8)])
def test_binary_masks_by_connected_regions(tmp_path, names, values):
    write_image(tmp_path / names[0])
    write_mask(tmp_path / names[1], values)
    found = read(tmp_path, 'mask-png')
    assert equal(masks_of(found), [DONUT, SQUARE]) and found.classes == ['object']
    assert found.images[0].split == ('train' if 'train' in names[0] else None)
    assert any('a connected region is an object' in note for note in found.notes)


@pytest.mark.parametrize(('colors', 'words'), [
    (((68, 1, 84), (253, 231, 36)), 'color 68, 1, 84 and color 253, 231, 36, none'), ((1, 2), '1 and 2, none')])
def test_two_values_without_0_are_an_error_unless_the_user_states_their_meaning(tmp_path, colors, words):
    """Masks that matplotlib saved in a color map."""
    for name, objects in (('a', DONUT), ('b', SQUARE), ('c', DONUT | SQUARE)):
        write_image(tmp_path / f'images/{name}.jpg')
        write_mask(tmp_path / f'masks/{name}.png', np.array(colors, np.uint8)[objects.astype(int)])
    with pytest.raises(UserError, match=f'two values, {words} of which is 0, .* mask-png-semantic'):
        read(tmp_path, 'mask-png')
    tree = FileTree(tmp_path)
    assert len(recognize(tree, 'mask-png-semantic')[0].read(tree).classes) == 2
    write_mask(tmp_path / 'masks/c.png', np.array([(0, 0, 0), (253, 231, 36)], np.uint8)[DONUT.astype(int)]
               if colors[0] != 1 else DONUT.astype(np.uint8) * 2)
    assert len(read(tmp_path, 'mask-png').images) == 3


def test_the_content_of_an_image_is_read_once(tmp_path, monkeypatch):
    for name in 'ab':
        write_image(tmp_path / f'photos/{name}.jpg')
        write_mask(tmp_path / f'outlines/{name}.png', DONUT.astype(np.uint8) * 255)
    read_files, read_content = [], mask_files._read_content
    monkeypatch.setattr(mask_files, '_read_content', lambda path: read_files.append(path.name) or read_content(path))
    tree = FileTree(tmp_path)
    assert [mask_files.find_masks(tree).images[0].image.name for _ in range(3)] == ['a.jpg'] * 3
    assert sorted(read_files) == sorted({*read_files})


@pytest.mark.parametrize('value', [1, 255])
def test_inverted_masks_are_an_error_unless_the_user_states_their_meaning(tmp_path, value):
    for name in 'abcd':
        write_image(tmp_path / f'images/{name}.jpg')
        write_mask(tmp_path / f'masks/{name}.png', (~(DONUT | SQUARE)).astype(np.uint8) * value)
    with pytest.raises(UserError, match='border of 4 of 4 masks .* seem to be inverted .* mask-png-semantic'):
        read(tmp_path, 'mask-png')
    tree = FileTree(tmp_path)
    found = recognize(tree, 'mask-png-semantic')[0].read(tree)
    assert len(found.images) == 4 and found.images[0].objects[0].box == (0, 0, WIDTH, HEIGHT)
    for name in 'bcd':  # one object at the border of one image is not unusual
        write_mask(tmp_path / f'masks/{name}.png', SQUARE.astype(np.uint8) * value)
    assert len(read(tmp_path, 'mask-png').images) == 4


@pytest.mark.parametrize('channels', [1, 3])
def test_a_blurred_mask_of_two_values(tmp_path, channels):
    write_image(tmp_path / 'images/a.jpg')
    values = (DONUT | SQUARE).astype(np.uint8) * 255
    write_mask(tmp_path / 'masks/a.jpg', np.stack([values] * 3, 2) if channels == 3 else values, quality=90)
    first, second = masks_of(read(tmp_path, 'mask-png'))
    assert (first ^ DONUT).sum() < 0.01 * DONUT.sum() and (second ^ SQUARE).sum() < 0.01 * SQUARE.sum()


@pytest.mark.parametrize('value', [0, 200])
def test_transparent_pixels_are_background(tmp_path, value):
    write_image(tmp_path / 'images/a.jpg')
    pixels = np.full((HEIGHT, WIDTH, 4), value, np.uint8)
    pixels[..., 3] = (DONUT | SQUARE) * 255
    write_mask(tmp_path / 'masks/a.png', pixels)
    assert equal(masks_of(read(tmp_path, 'mask-png')), [DONUT, SQUARE])


def semantic(folder, values=(3, 7), mode='L'):
    """Masks of two classes; images have one or both of them, one class has two regions."""
    parts = [(DONUT, 0), (SQUARE, 0), (BAR, 1)]
    for number, chosen in enumerate((parts, parts[:2], parts[2:])):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for pixels, index in chosen:
            mask[pixels] = values[index]
        mask[155:] = 255
        write_image(folder / f'images/{number}.jpg')
        write_mask(folder / f'annotations/{number}.png', mask, mode)
    return folder


def test_few_values_are_masks_even_if_no_region_is_flat(tmp_path):
    write_image(tmp_path / 'images/a.png', (5, 1))
    write_mask(tmp_path / 'masks/a.png', np.array([[0, 1, 0, 2, 2]], np.uint16))
    assert len(objects_of(read(tmp_path, 'mask-png'))) == 2


@pytest.mark.parametrize('mode', ['L', 'P'])
def test_masks_of_classes(tmp_path, mode):
    found = read(semantic(tmp_path, mode=mode), 'mask-png')
    assert found.classes == ['class_3', 'class_7'] and not found.problems
    assert [each.name for each in objects_of(found, '0.jpg')] == ['class_3', 'class_3', 'class_7']
    assert equal(masks_of(found, '0.jpg'), [DONUT, SQUARE, BAR])
    assert any('a value is a class' in note and '255 is ignored' in note for note in found.notes)


def test_values_with_gaps_and_split_objects_still_count_objects(tmp_path):
    for number in range(4):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for value in range(1, 13):
            if value % 5 != number:
                mask[12 * value - 5:12 * value, 10:60] = value
        mask[43, 10:60] = mask[43, 70:80] = 4  # an object in two parts
        write_image(tmp_path / f'images/{number}.jpg')
        write_mask(tmp_path / f'masks/{number}.png', mask)
    assert len(objects_of(read(tmp_path, 'mask-png'), '0.jpg')) == 10


def test_names_of_values(tmp_path):
    folder = semantic(tmp_path, (1, 2))
    (folder / 'class_names.txt').write_text('_background_\nring\nbar\n')
    assert read(folder, 'mask-png').classes == ['ring', 'bar']
    (folder / 'class_names.txt').write_text('ring\nbar\nextra')
    assert read(folder, 'mask-png').classes == ['ring', 'bar']


def test_a_list_of_names_makes_values_classes(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    write_mask(tmp_path / 'masks/a.png', VALUES)
    assert read(tmp_path, 'mask-png').classes == ['object']
    (tmp_path / 'labels.txt').write_text('ring\nsquare\n')
    found = read(tmp_path, 'mask-png')
    assert found.classes == ['ring', 'square'] and equal(masks_of(found), [DONUT, SQUARE])


def test_colors(tmp_path):
    colors = {'ring': (128, 0, 0), 'bar': (0, 128, 10)}
    for number in range(2):
        mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        mask[DONUT | SQUARE], mask[BAR] = colors['ring'], colors['bar']
        mask[155:] = 224, 224, 192
        write_image(tmp_path / f'JPEGImages/{number}.jpg')
        write_mask(tmp_path / f'SegmentationClass/{number}.png', mask)
    assert read(tmp_path, 'mask-png').classes == ['color_0_128_10', 'color_128_0_0']
    (tmp_path / 'labelmap.txt').write_text('# label:color_rgb:parts:actions\nbackground:0,0,0::\n' + ''.join(
        f'{name}:{",".join(map(str, color))}::\n' for name, color in colors.items()))
    assert {each.name for each in objects_of(read(tmp_path, 'mask-png'), '0.jpg')} == {'ring', 'bar'}
    (tmp_path / 'labelmap.txt').unlink()
    (tmp_path / 'class_dict.csv').write_text('name,r,g,b\n' + ''.join(
        f'{name},{",".join(map(str, color))}\n' for name, color in colors.items()))
    assert {each.name for each in objects_of(read(tmp_path, 'mask-png'), '0.jpg')} == {'ring', 'bar'}


def test_objects_and_their_classes_in_two_masks(tmp_path):
    """The layout of Pascal VOC."""
    write_image(tmp_path / 'JPEGImages/a.jpg')
    objects, classes = VALUES.copy(), np.where(DONUT | SQUARE, 9, 0).astype(np.uint8)
    objects[BAR], classes[BAR] = 3, 4
    objects[155:] = classes[155:] = 255
    write_mask(tmp_path / 'SegmentationObject/a.png', objects, 'P')
    write_mask(tmp_path / 'SegmentationClass/a.png', classes, 'P')
    found = read(tmp_path, 'mask-png')
    assert [each.name for each in objects_of(found)] == ['class_9', 'class_9', 'class_4']
    assert equal(masks_of(found), [DONUT, SQUARE, BAR]) and not found.problems


def test_the_user_states_what_values_mean(tmp_path):
    folder = semantic(tmp_path)
    instance, _ = recognize(FileTree(folder), 'mask-png-instance')
    found = instance.read(FileTree(folder))
    assert equal(masks_of(found, '0.jpg'), [DONUT | SQUARE, BAR]) and found.classes == ['object']
    semantics, _ = recognize(FileTree(folder), 'mask-png-semantic')
    assert len(objects_of(semantics.read(FileTree(folder)), '0.jpg')) == 3


def test_folders_of_classes_and_several_masks_of_an_image(tmp_path):
    write_image(tmp_path / 'a/images/x.png')
    for name, mask in (('ring', DONUT), ('box', SQUARE | BAR)):
        write_mask(tmp_path / f'a/masks/{name}/x.png', mask)
    found = read(tmp_path / 'a', 'mask-png')
    assert found.classes == ['box', 'ring'] and len(objects_of(found)) == 3
    write_image(tmp_path / 'b/x.png')
    for end, mask in (('_mask', DONUT), ('_mask_1', SQUARE | BAR)):
        write_mask(tmp_path / f'b/x{end}.png', mask)
    assert equal(sorted(masks_of(read(tmp_path / 'b', 'mask-png')), key=np.sum), [SQUARE | BAR, DONUT])


def test_problems(tmp_path):
    for name in 'abcdefg':
        write_image(tmp_path / f'images/{name}.jpg')
    write_turned(tmp_path / 'images/g.jpg')
    write_mask(tmp_path / 'masks/a.png', VALUES)
    write_mask(tmp_path / 'masks/b.png', VALUES[::2, ::2])
    write_mask(tmp_path / 'masks/c.png', VALUES[:50])
    write_mask(tmp_path / 'masks/x.png', VALUES)
    write_mask(tmp_path / 'masks/f.tif', VALUES.astype(np.float32))
    write_mask(tmp_path / 'masks/g.png', np.zeros((WIDTH, HEIGHT), np.uint8))
    (tmp_path / 'masks/d.png').write_bytes(b'no image')
    write_image(tmp_path / 'images/h.jpg')
    write_mask(tmp_path / 'masks/h.jpg', VALUES * 60)
    found = read(tmp_path, 'mask-png')
    assert [image.path.name for image in found.images] == ['a.jpg', 'b.jpg']
    assert equal(masks_of(found, 'b.jpg'), [DONUT, SQUARE])
    for text, words in zip(texts(found), (
            'x.png:None: no image of this mask', 'c.jpg is 200 x 160, annotated 200 x 50',
            'd.png:None: the mask cannot be read',
            'not integers; images/f.jpg is left out', 'EXIF', 'JPEG of more than two'), strict=True):
        assert words in text
    assert any('1 images have no annotation and are left out: images/e.jpg' in note for note in found.notes)


def test_drawings_of_masks_are_neither_masks_nor_images(tmp_path):
    """The export of LabelMe in the layout of VOC."""
    write_image(tmp_path / 'JPEGImages/a.jpg')
    write_mask(tmp_path / 'SegmentationClass/a.png', VALUES, 'P')
    write_image(tmp_path / 'SegmentationClassVisualization/a.jpg')
    found = read(tmp_path, 'mask-png')
    assert equal(masks_of(found), [DONUT, SQUARE]) and not found.problems
    assert not any('left out' in note for note in found.notes)
