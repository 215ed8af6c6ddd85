"""COCO files as labeling tools write them; no object is lost without a problem that names it."""

import json

import pytest

from tests.datasets.formats.reading import (
    CAT,
    DOG,
    assert_objects,
    polygon,
    read,
    recognized,
    splits,
    write,
    write_image,
)
from vitdet_plugin.datasets.own_data.tiles import cut_images
from vitdet_plugin.datasets.to_coco import coco_content

CATEGORIES = [dict(id=1, name='cat'), dict(id=7, name='dog')]


def annotation(image, name, box, **more):
    x1, y1, x2, y2 = box
    return dict(id=len(more) + hash((image, box)) % 10 ** 6 + 1, image_id=image, iscrowd=0,
                category_id={'cat': 1, 'dog': 7}.get(name, name), bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1), **more)


def coco(images, rows, categories=CATEGORIES):
    """A COCO file: names of images, and (number of the image, class, box, further keys) of each object."""
    return dict(info={}, images=[dict(id=i, file_name=name, width=100, height=80) for i, name in enumerate(images, 1)],
                annotations=[annotation(image, name, box, **(more[0] if more else {}))
                             for image, name, box, *more in rows],
                categories=[dict(each) for each in categories])


@pytest.mark.parametrize(('file', 'folder', 'name'), [
    ('annotations.json', '', 'a.png'), ('annotations/instances_train2017.json', 'train2017', 'a.png'),
    ('a/b/c.json', 'x/y', 'a.png'), ('result.json', 'images', 'images\\a.png'),
    ('train/_annotations.coco.json', 'train', 'a.png'), ('ann/t.json', 'images', '../images/a.png'),
    ('t.json', 'images', '/home/someone/project/images/a.png'), ('t.json', 'images', 'A.PNG')])
def test_objects_and_background_images_come_back(tmp_path, file, folder, name):
    write_image(tmp_path / folder / 'a.png')
    write_image(tmp_path / folder / 'empty.png')
    write(tmp_path / file, coco([name, 'empty.png'], [(1, *CAT), (1, *DOG)]))
    found = read(tmp_path, 'coco')
    prefix = f'{folder}/' if folder else ''
    assert_objects(found, tmp_path, {f'{prefix}a.png': [CAT, DOG], f'{prefix}empty.png': []})
    assert found.classes == ['cat', 'dog'] and not found.problems and not found.clipped
    assert found.images[0].split == ('train' if 'train' in file else None)


def test_masks_crowds_and_content_that_tools_write_in_other_ways(tmp_path):
    write_image(tmp_path / 'a.png')
    rle = dict(size=[80, 100], counts=[80 * 10 + 20, 40, 80 * 100 - 80 * 10 - 60])  # column 10, rows 20 to 60
    box = (10, 20, 11, 60)
    content = coco(['a.png'], [
        (1, *CAT, dict(segmentation=[polygon(CAT[1])])), (1, 'dog', box, dict(segmentation=rle)),
        (1, *DOG, dict(segmentation=[[50, 30, 90]])), (1, 'dog', (0, 0, 1, 1), dict(segmentation=[polygon(DOG[1])]))])
    content['annotations'][1]['iscrowd'] = '1'
    del content['annotations'][3]['bbox']
    for each in (*content['images'], *content['categories']):
        each['id'] = str(each['id'])
    for each in content['annotations']:
        each['image_id'] = float(each['image_id'])
    content['categories'][0]['name'], content['images'][0]['width'] = 9, 100.0
    write(tmp_path / 't.json', content, 'utf-16')
    found = read(tmp_path, 'coco')
    assert_objects(found, tmp_path, {'a.png': [('9', CAT[1]), ('dog', box), DOG, DOG]})
    masks = [each.mask for each in found.images[0].objects]
    assert masks == [[polygon(CAT[1])], rle, None, [polygon(DOG[1])]] and not found.problems
    assert [each.is_crowd for each in found.images[0].objects] == [False, True, False, False]
    assert any('1 annotations whose mask encloses nothing' in note for note in found.notes)
    assert '1 files are read as UTF-16: t.json' in found.notes


def test_each_fault_is_a_problem(tmp_path):
    write_image(tmp_path / 'a.png')
    write_image(tmp_path / 'small.png', (50, 40))
    write_image(tmp_path / 'unlisted.png')
    write_image(tmp_path / 'rotated.jpg', (100, 80), orientation=6)
    content = coco(['a.png', 'missing.png', 'small.png', 'rotated.jpg'], [
        (1, *CAT), (2, *CAT), (3, *CAT), (4, *CAT), (1, 99, CAT[1]), (9, *CAT), (1, 'cat', (200, 0, 210, 10)),
        (1, 'dog', (-5, 0, 30, 90))])
    content['annotations'] += [dict(id=-1, image_id=1, category_id=1, bbox=[1, 2, 'x', 4]), 'text',
                               dict(id=-2, image_id=1, category_id=1)]
    content['images'].append(dict(id=5))
    content['annotations'].insert(0, dict(id=-3, category_id=1, bbox=[1, 2, 3, 4]))
    content['annotations'].append(dict(id=-4, image_id=2, category_id=99))
    write(tmp_path / 't.json', content)
    write(tmp_path / 'cut.json', json.dumps(content)[:200])
    found = read(tmp_path, 'coco')
    assert_objects(found, tmp_path, {'a.png': [CAT, ('dog', (0, 0, 30, 80))]})
    texts = [str(each) for each in found.problems]
    for part in ('image 2: the image missing.png is not below', '; its 2 annotations are left out',
                 'annotation -3: image_id None',
                 'image 3: ', 'small.png is 50 x 40, annotated 100 x 80',
                 'rotated.jpg is 80 x 100, annotated 100 x 80; the file has an EXIF orientation',
                 'category_id 99 is not in the file', 'image_id 9 is not in the file', 'image 5: no file_name',
                 'box (200, 0, 210, 10) has no area within the image', 'annotation -1: cat: a box needs four',
                 'annotation number 10: expected an object, found str', 'annotation -2: cat: a box needs four',
                 'cut.json: not valid JSON'):
        assert any(part in text for text in texts), part
    assert len(texts) == 12 and found.clipped == 1
    assert '1 images are not listed in any COCO file and are left out: unlisted.png' in found.notes


def test_several_files(tmp_path):
    """The same file names in two splits, categories of each file, and a file that repeats the others."""
    for split in ('train2017', 'val2017'):
        write_image(tmp_path / split / 'a.png')
    write_image(tmp_path / 'train2017/b.png')
    train, val = coco(['a.png', 'b.png'], [(1, *CAT), (1, *CAT)]), coco(['a.png'], [(1, *DOG)], CATEGORIES[::-1])
    write(tmp_path / 'annotations/instances_train2017.json', train)
    write(tmp_path / 'annotations/instances_val2017.json', val)
    write(tmp_path / 'annotations/person_keypoints_val2017.json', coco(['a.png'], [(1, *DOG, dict(keypoints=[1, 2]))]))
    write(tmp_path / 'annotations/captions_val2017.json', dict(images=val['images'], annotations=[
        dict(id=1, image_id=1, caption='a cat')]))
    write(tmp_path / 'annotations/image_info_test2017.json', {k: v for k, v in train.items() if k != 'annotations'})
    write(tmp_path / 'annotations/results.json', [dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4], score=0.5)])
    write(tmp_path / 'all/merged.json', coco(['train2017/a.png'], [(1, *CAT), (1, *DOG)]))
    found = read(tmp_path, 'coco')
    assert_objects(found, tmp_path, {'train2017/a.png': [CAT, CAT, DOG], 'train2017/b.png': [], 'val2017/a.png': [DOG]})
    assert splits(found, tmp_path) == {'train2017/a.png': 'train', 'train2017/b.png': 'train', 'val2017/a.png': 'val'}
    assert found.classes == ['cat', 'dog'] and not found.problems
    for part in ('person_keypoints_val2017.json is ignored: keypoints', 'captions_val2017.json is ignored: captions',
                 'results.json is ignored: results',
                 'image_info_test2017.json is ignored: its 2 images have no', '1 entries of images repeat'):
        assert any(part in note for note in found.notes), part


def test_image_in_two_splits_is_a_problem(tmp_path):
    write_image(tmp_path / 'images/a.png')
    for split in ('train', 'val'):
        write(tmp_path / f'{split}.json', coco(['a.png'], [(1, *CAT)]))
    found = read(tmp_path, 'coco')
    assert splits(found, tmp_path) == {'images/a.png': 'train'} and len(found.images[0].objects) == 1
    assert 'a.png is in train by another file and in val by this one' in str(found.problems[0])


@pytest.mark.parametrize(('categories', 'classes'), [
    ([dict(id=0, name='animals', supercategory='none'), dict(id=1, name='cat', supercategory='animals'),
      dict(id=7, name='dog', supercategory='animals')], ['cat', 'dog']),
    ([dict(id=0, name='cat', supercategory='none'), dict(id=1, name='cat', supercategory='cat'),
      dict(id=7, name='dog', supercategory='cat')], ['cat', 'dog']),
    ([dict(id=0, name='_background_'), dict(id=1, name='cat'), dict(id=7, name='dog')], ['cat', 'dog']),
    ([dict(id=1, name='cat', supercategory='cat'), dict(id=7, name='dog', supercategory='dog'),
      dict(id=8, name='cow', supercategory='cow')], ['cat', 'dog', 'cow'])])
def test_root_category_of_roboflow_and_background(tmp_path, categories, classes):
    for folder in ('train', 'valid', 'test'):
        write_image(tmp_path / folder / 'a.jpg')
        rows = [(1, *CAT)] * (folder != 'test')
        write(tmp_path / folder / '_annotations.coco.json', coco(['a.jpg'], rows, categories))
    write(tmp_path / 'README.roboflow.txt', 'exported')
    found = read(tmp_path, 'coco')
    assert found.classes == classes and not found.problems
    assert splits(found, tmp_path) == {'train/a.jpg': 'train', 'valid/a.jpg': 'val', 'test/a.jpg': 'test'}


def test_chosen_file(tmp_path):
    """One file of several, with the images next to its folder."""
    write_image(tmp_path / 'images/a.png')
    write_image(tmp_path / 'images/b.png')
    for name in ('a', 'b'):
        write(tmp_path / f'annotations/{name}.json', coco([f'{name}.png'], [(1, *CAT)]))
    assert_objects(read(tmp_path / 'annotations/b.json', 'coco'), tmp_path, {'images/b.png': [CAT]})


@pytest.mark.parametrize('content', [
    [], {}, dict(images=[], annotations=[], categories=[]), dict(shapes=[], imagePath='a.png', imageData=None),
    dict(images=['a.png'], categories=['cat']), dict(images=[{}], categories=CATEGORIES, annotations=[]),
    [dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4], score=0.5)], 'not json "images" "categories"'])
def test_other_json_files_are_not_recognized(tmp_path, content):
    write_image(tmp_path / 'a.png')
    write(tmp_path / 'a.json', content)
    assert recognized(tmp_path) == []


def test_the_classes_that_lvis_searched_for_are_kept(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'{name}.png')
    content = coco(['a.png', 'b.png'], [(1, *CAT), (2, *DOG)])
    content['images'][0].update(neg_category_ids=[7], not_exhaustive_category_ids=[1])
    for category, frequency in zip(content['categories'], 'rf'):
        category['frequency'] = frequency
    write(tmp_path / 'lvis.json', content)
    found = read(tmp_path, 'coco')
    assert [(image.absent, image.partly) for image in found.images] == [(('dog',), ('cat',)), (None, ())]
    assert found.frequencies == {'cat': 'r', 'dog': 'f'} and 'LVIS' in found.notes[0]
    again = coco_content(found.images, ['dog', 'cat'], lambda image: image.path.name, frequencies=found.frequencies)
    assert [image.get('neg_category_ids') for image in again['images']] == [[1], None]
    assert [image.get('not_exhaustive_category_ids') for image in again['images']] == [[2], None]
    assert [(each['name'], each['frequency']) for each in again['categories']] == [('dog', 'f'), ('cat', 'r')]
    tiles = cut_images(found.images[:1], 60, 'tiles', keep_empty=True)
    assert {(bool(tile.objects), tile.absent, tile.partly) for tile in tiles} == {
        (True, ('dog',), ('cat',)), (False, ('dog', 'cat'), ('cat',))}
