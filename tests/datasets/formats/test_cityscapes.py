"""Cityscapes: instance masks with 1000 * class + number, other masks next to them."""

import numpy as np
from PIL import Image

from tests.datasets.formats.known_pixels import objects_of, pixels_of, read, texts, write_image

SHAPE = 160, 200


def write_mask(path, codes):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(codes.astype(np.uint16) if codes.ndim == 2 else codes).save(path)


def codes():
    found = np.full(SHAPE, 7, np.int32)  # road
    found[10:50, 20:60], found[60:90, 100:150], found[100:120, 10:90] = 26000, 26001, 24000
    found[130:150, 10:90] = 26  # cars of one region
    found[0:5, 0:50] = 60000
    return found


def test_objects(tmp_path):
    for split, name in (('train', 'aachen_000000_000019'), ('val', 'frankfurt_000000_000294')):
        city = name.split('_')[0]
        write_image(tmp_path / f'leftImg8bit/{split}/{city}/{name}_leftImg8bit.png')
        folder = tmp_path / f'gtFine/{split}/{city}'
        write_mask(folder / f'{name}_gtFine_instanceIds.png', codes())
        write_mask(folder / f'{name}_gtFine_labelIds.png', codes() // 1000)
        write_mask(folder / f'{name}_gtFine_color.png', np.zeros((*SHAPE, 3), np.uint8))
    found = read(tmp_path, 'cityscapes')
    assert [image.split for image in found.images] == ['train', 'val'] and not found.problems
    crowd, person, first, second = objects_of(found, 'aachen_000000_000019_leftImg8bit.png')
    assert (crowd.name, crowd.is_crowd) == ('car', True) and (pixels_of(crowd.mask) == (codes() == 26)).all()
    assert (person.name, person.box) == ('person', (10, 100, 90, 120))
    assert (first.box, second.box, second.is_crowd) == ((20, 10, 60, 50), (100, 60, 150, 90), False)
    assert (pixels_of(second.mask) == (codes() == 26001)).all() and found.classes[:2] == ['person', 'rider']
    for part in ('2 regions are of several objects', 'without a name are left out: 60'):
        assert any(part in note for note in found.notes)
    assert not any('left out: gtFine' in note for note in found.notes)


def test_short_names_own_classes_and_missing_images(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    for name in ('a', 'gone'):
        write_mask(tmp_path / f'masks/{name}_instanceIds.png', np.where(codes() == 26000, 1005, 0))
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    found = read(tmp_path, 'cityscapes')
    assert [each.name for each in objects_of(found)] == ['cat'] and found.classes == ['cat']
    assert len(texts(found)) == 1 and 'no image gone_leftImg8bit.* or gone.* was found' in texts(found)[0]
