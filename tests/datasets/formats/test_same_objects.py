"""Two formats in one folder: one is chosen if both describe the same objects."""

import json

import pytest

from tests.datasets.formats.reading import write, write_image
from vitdet_plugin.datasets.formats import recognize
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.errors import UserError

BOXES = {'a': (10, 20, 40, 60), 'b': (5, 5, 50, 70)}


def write_coco(root, names='ab', name='cat', shift=0, mask=False, file='annotations/train.json'):
    entries = [dict(id=i, image_id=i, category_id=1, bbox=[x + shift, y, w - x, h - y], iscrowd=0, area=9,
                    **(dict(segmentation=[[x, y, w, y, w, h, x, h]]) if mask else {}))
               for i, (x, y, w, h) in enumerate(BOXES[each] for each in names)]
    write(root / file, dict(images=[dict(id=i, file_name=f'{each}.jpg', width=100, height=80)
                                    for i, each in enumerate(names)],
                            categories=[dict(id=1, name=name)], annotations=entries))


def write_voc(root, names='ab'):
    for each in names:
        pairs = zip(('xmin', 'ymin', 'xmax', 'ymax'), BOXES[each])
        sides = ''.join(f'<{side}>{value}</{side}>' for side, value in pairs)
        write(root / f'xml/{each}.xml', f'<annotation><filename>{each}.jpg</filename><object><name>cat</name><bndbox>'
                                        f'{sides}</bndbox></object></annotation>')


@pytest.fixture
def root(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'images/{name}.jpg')
    return tmp_path


@pytest.mark.parametrize(('coco', 'voc', 'chosen', 'reason'), [
    ({}, {}, 'coco', 'coco states splits'), (dict(shift=1), {}, 'coco', 'coco states splits'),
    (dict(mask=True), {}, 'coco', 'coco has masks'), (dict(names='a'), {}, 'voc', 'voc has more images'),
    (dict(file='all.json'), {}, 'coco', '2 objects in both'), ({}, dict(names='b'), 'coco', 'coco has more images')])
def test_the_same_objects(root, coco, voc, chosen, reason):
    write_coco(root, **coco)
    write_voc(root, **voc)
    form, evidence = recognize(FileTree(root))
    other = 'voc' if chosen == 'coco' else 'coco'
    assert form.name == chosen and evidence.endswith(f'; {other} describes the same objects and is not read: {reason}')


@pytest.mark.parametrize(('coco', 'voc', 'difference'), [
    (dict(shift=3), {}, 'a.jpg: cat (10, 20, 40, 60) is in voc only; 4 of 4 objects differ'),
    (dict(name='dog'), {}, 'a.jpg: cat (10, 20, 40, 60) is in voc only; 4 of 4 objects differ'),
    (dict(names='a'), dict(names='b'), 'only voc describes b.jpg')])
def test_other_objects(root, coco, voc, difference):
    write_coco(root, **coco)
    write_voc(root, **voc)
    with pytest.raises(UserError) as raised:
        recognize(FileTree(root))
    assert f'fits several formats that differ ({difference}): coco (' in str(raised.value)
    assert 'choose one with --format' in str(raised.value)


def test_copies_of_the_images(root):
    """Converters such as labelme2coco copy the images next to the file that they write."""
    write_coco(root, file='converted/annotations.json')
    write_voc(root / 'labeled')
    for name in 'ab':
        write_image(root / f'converted/{name}.jpg')
        (root / f'images/{name}.jpg').rename(root / f'labeled/{name}.jpg')
    form, evidence = recognize(FileTree(root))
    assert form.name == 'coco'
    assert evidence.endswith('voc describes the same objects and is not read: 2 objects in both')


def test_a_broken_second_format_is_no_reason_to_choose(root):
    write_coco(root)
    write(root / 'all.json', json.dumps(dict(images=[])))
    assert recognize(FileTree(root))[0].name == 'coco'


def test_neither_has_an_image_that_can_be_used(root):
    """One format is chosen, whose problems say why."""
    for name in 'ab':
        (root / f'images/{name}.jpg').write_bytes(b'broken')
    write_coco(root)
    write_voc(root)
    assert recognize(FileTree(root))[0].name == 'coco'


def test_three_formats(root):
    write_coco(root, file='all.json')
    write_voc(root)
    for name, (x1, y1, x2, y2) in BOXES.items():
        box = (x1 + x2) / 200, (y1 + y2) / 160, (x2 - x1) / 100, (y2 - y1) / 80
        write(root / f'labels/{name}.txt', ' '.join(map(str, (0, *box))))
    write(root / 'classes.txt', 'cat')
    assert recognize(FileTree(root))[1].endswith(
        '; yolo and voc describe the same objects and are not read: 2 objects in each')
