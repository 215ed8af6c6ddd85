"""Image folders of Hugging Face written by hand."""

import json

import pytest

from tests.datasets.formats.reading import CAT, DOG, assert_objects, read, recognized, splits, write, write_image

CARD = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: objects
    sequence:
    - name: categories
      dtype:
        class_label:
          names:
            '0': cat
            '1': dog
            '2': cow
---
# Cats and dogs
"""


def corner_and_size(box):
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def metadata(path, *entries):
    write(path, ''.join(json.dumps(each) + '\n' for each in entries))


def columns(*objects, names=('cat', 'dog'), category='categories', box=corner_and_size, **more):
    return {'bbox': [box(each[1]) for each in objects], category: [names[each[0] == 'dog'] for each in objects], **more}


@pytest.mark.parametrize('category', ['category', 'categories', 'label'])
def test_lists_of_each_key(tmp_path, category):
    for name in ('train/a.jpg', 'train/b.jpg', 'validation/c.jpg', 'test/d.jpg'):
        write_image(tmp_path / name)
    objects = columns(CAT, DOG, category=category, id=[4, 5], area=[1200, 1600])
    metadata(tmp_path / 'train/metadata.jsonl', dict(file_name='a.jpg', image_id=1, objects=objects),
             dict(file_name='b.jpg', objects=columns(category=category)))
    metadata(tmp_path / 'validation/metadata.jsonl', dict(file_name='c.jpg', objects=columns(DOG, category=category)))
    metadata(tmp_path / 'test/metadata.jsonl', dict(file_name='d.jpg', objects=columns(category=category)))
    found = read(tmp_path, 'huggingface')
    assert_objects(found, tmp_path, {'train/a.jpg': [CAT, DOG], 'train/b.jpg': [], 'validation/c.jpg': [DOG],
                                     'test/d.jpg': []})
    assert splits(found, tmp_path) == {'train/a.jpg': 'train', 'train/b.jpg': 'train', 'validation/c.jpg': 'val',
                                       'test/d.jpg': 'test'}
    assert found.classes == ['cat', 'dog'] and not found.problems
    assert found.notes == ['the numbers of a box are read as x, y, width, height (3 of 3 are within their images so, 1 '
                           'as x1, y1, x2, y2)']


@pytest.mark.parametrize('card', [CARD, CARD.replace('\n', '\r\n'), ''])
def test_numbered_classes_have_the_names_of_the_card(tmp_path, card):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'README.md', card)
    metadata(tmp_path / 'metadata.jsonl', dict(file_name='a.jpg', objects=columns(CAT, DOG, names=(0, 1))))
    found = read(tmp_path, 'huggingface')
    names = ['cat', 'dog', 'cow'] if card else ['class 0', 'class 1']
    assert found.classes == names and [each.name for each in found.images[0].objects] == names[:2]
    assert any('--classes' in note for note in found.notes) == (not card)


def test_a_list_of_objects_with_masks(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    metadata(tmp_path / 'data.jsonl', dict(image='images/a.jpg', annotations=[
        dict(category_name='cat', bbox=corner_and_size(CAT[1]), segmentation=[[10, 20, 40, 20, 40, 60, 10, 60]]),
        dict(category_name='dog', bbox=corner_and_size(DOG[1]))]))
    found = read(tmp_path, 'huggingface')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT, DOG]})
    assert [each.mask is not None for each in found.images[0].objects] == [True, False]


def test_columns_of_the_table_and_boxes_as_corners(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write_image(tmp_path / 'b.jpg')
    metadata(tmp_path / 'metadata.jsonl', dict(file_name='a.jpg', **columns(CAT, box=list)),
             dict(file_name='b.jpg', **columns(DOG, box=list)))
    found = read(tmp_path, 'huggingface')
    assert_objects(found, tmp_path, {'a.jpg': [CAT], 'b.jpg': [DOG]})
    assert 'the numbers of a box are read as x1, y1, x2, y2 (2 of 2' in found.notes[0]


def test_classes_of_images(tmp_path):
    for name in 'abc':
        write_image(tmp_path / f'train/{name}.jpg')
    metadata(tmp_path / 'train/metadata.jsonl', dict(file_name='a.jpg', label='cat'),
             dict(file_name='b.jpg', label='dog'), dict(file_name='c.jpg', label=['cat', 'dog']))
    found = read(tmp_path, 'huggingface', 'huggingface')
    assert [(image.path.name, image.label) for image in found.images] == [('a.jpg', 'cat'), ('b.jpg', 'dog')]
    assert 'c.jpg has 2 labels (cat, dog)' in str(found.problems[0])


def test_what_cannot_be_converted_is_a_problem(tmp_path):
    write_image(tmp_path / 'a.jpg')
    wrong = [dict(bbox=[1, 2, 3], category='cat'), dict(bbox=[1, 2, 3, 4]), 'text',
             dict(bbox=[1, 2, 'x', 4], label='cat')]
    metadata(tmp_path / 'metadata.jsonl', dict(file_name='a.jpg', objects=[
        dict(bbox=corner_and_size(CAT[1]), category='cat'), *wrong]), dict(file_name='gone.jpg', objects=[]), dict(x=1))
    write(tmp_path / 'metadata.jsonl', (tmp_path / 'metadata.jsonl').read_text() + '\nno json\n')
    found = read(tmp_path, 'huggingface')
    assert_objects(found, tmp_path, {'a.jpg': [CAT]})
    text = '\n'.join(map(str, found.problems))
    assert [problem.line for problem in found.problems] == [2, 3, 5, 1, 1, 1, 1]
    assert 'object 2: a box needs four numbers, found [1, 2, 3]' in text
    assert 'object 3: no class' in text and 'gone.jpg' in text and 'not a JSON object with an image' in text


@pytest.mark.parametrize('content', [
    b'\x00\xff\xfe\x9f' * 9, b'{"file_name": "a.jpg", "text": "a cat"}\n', b'[1, 2]\n', b'{"prompt": "x"}\n'])
def test_other_files_are_not_recognized(tmp_path, content):
    write_image(tmp_path / 'a.jpg')
    (tmp_path / 'metadata.jsonl').write_bytes(content)
    assert recognized(tmp_path) == []
