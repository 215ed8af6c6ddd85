"""COCO panoptic files written by hand."""

import numpy as np
from PIL import Image

from tests.datasets.formats.known_pixels import DONUT, HEIGHT, WIDTH, objects_of, pixels_of, read, texts, write_image
from tests.datasets.formats.reading import write

SQUARE = np.zeros((HEIGHT, WIDTH), bool)
SQUARE[110:150, 150:190] = True
CATEGORIES = [dict(id=3, name='cat', isthing=1), dict(id=5, name='dog', isthing=1), dict(id=90, name='sky', isthing=0)]
IDS = {'cat': 0x010203, 'dog': 5, 'sky': 70000}


def panoptic(folder, segments, name='panoptic_train2017', image='a.jpg'):
    """An image whose background is sky."""
    ids = np.full((HEIGHT, WIDTH), IDS['sky'])
    ids[DONUT], ids[SQUARE] = IDS['cat'], IDS['dog']
    path = folder / f'annotations/{name}/a.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], 2).astype(np.uint8)).save(path)
    write(folder / f'annotations/{name}.json', dict(
        images=[dict(id=7, file_name=image, width=WIDTH, height=HEIGHT)], categories=CATEGORIES,
        annotations=[dict(image_id=7, file_name='a.png', segments_info=segments)]))


def segment(name, **more):
    return dict(id=IDS[name], category_id={each['name']: each['id'] for each in CATEGORIES}[name], iscrowd=0,
                bbox=[0, 0, 1, 1], area=1) | more


def test_things_are_objects_and_stuff_is_counted(tmp_path):
    write_image(tmp_path / 'train2017/a.jpg')
    panoptic(tmp_path, [segment('sky'), segment('dog', iscrowd=1), segment('cat')])
    found = read(tmp_path, 'coco-panoptic')
    dog, cat = objects_of(found)
    assert (pixels_of(dog.mask) == SQUARE).all() and (pixels_of(cat.mask) == DONUT).all()
    assert (dog.name, cat.name, dog.is_crowd, cat.is_crowd) == ('dog', 'cat', True, False)
    assert found.classes == ['cat', 'dog'] and not found.problems and found.images[0].split == 'train'
    assert any('1 segments are of 1 classes that are not things' in note for note in found.notes)
    assert not any('no annotation' in note for note in found.notes)


def test_what_cannot_be_converted_is_a_problem(tmp_path):
    write_image(tmp_path / 'train2017/a.jpg')
    panoptic(tmp_path, [segment('cat'), segment('dog', id=99), segment('cat', category_id=4), None,
                        segment('cat', category_id=[1])])
    found = read(tmp_path, 'coco-panoptic')
    assert len(objects_of(found)) == 1 and len(found.problems) == 4
    assert 'dog: no pixel has the color of the segment 99' in texts(found)[0]


def test_an_image_without_its_segments_is_left_out(tmp_path):
    write_image(tmp_path / 'train2017/a.jpg')
    write_image(tmp_path / 'train2017/b.jpg')
    panoptic(tmp_path, [segment('cat')])
    (tmp_path / 'annotations/panoptic_train2017/a.png').unlink()
    found = read(tmp_path, 'coco-panoptic')
    assert not found.images and 'a.jpg is left out' in texts(found)[0]
