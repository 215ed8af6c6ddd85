import json

import pytest

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import write_tiny_set
from vitdet_plugin.datasets.image_sets import open_image_sets, training_set
from vitdet_plugin.errors import UserError


def test_classes_are_the_sorted_folders(tmp_path):
    root = write_class_folders(tmp_path / 'my images', per_class=4)
    (root / 'Maize' / 'notes.txt').write_text('x')
    (root / 'Maize' / 'deep').mkdir()
    (root / 'Maize' / '00.png').rename(root / 'Maize' / 'deep' / '00.png')
    (root / '.cache').mkdir()
    found, = open_image_sets(root)
    assert found.classes == list(CLASSES) and len(found) == 12
    assert found.files[found.labels.index(1)] == 'Fat Hen/00.png' and 'Maize/deep/00.png' in found.files
    assert found.other_files == ['Maize/notes.txt']
    assert all(found.path(index).is_file() for index in range(12))


def test_splits_share_the_numbers_of_their_classes(tmp_path):
    for split in ('val', 'train', 'test'):
        write_class_folders(tmp_path / split, per_class=1)
    (tmp_path / 'val' / 'Black-grass' / '00.png').unlink()
    (tmp_path / 'val' / 'Black-grass').rmdir()
    sets = open_image_sets(tmp_path)
    assert [each.name for each in sets] == ['train', 'val', 'test']
    assert sets[1].labels == [1, 2] and sets[1].classes == list(CLASSES)
    assert training_set(tmp_path).root == tmp_path / 'train'


def test_a_class_named_train_is_not_a_split(tmp_path):
    root = write_class_folders(tmp_path / 'vehicles', per_class=1)
    (root / 'Maize').rename(root / 'train')
    assert open_image_sets(root)[0].classes == ['Black-grass', 'Fat Hen', 'train']


def test_list_files_of_mmpretrain(tmp_path):
    root = write_class_folders(tmp_path / 'set', per_class=1)
    (tmp_path / 'train.txt').write_text('Maize/00.png 2\nFat Hen/00.png 1\n')
    found, = open_image_sets(root, [tmp_path / 'train.txt'])
    assert (found.files, found.labels) == (['Maize/00.png', 'Fat Hen/00.png'], [2, 1])
    assert found.classes == ['class 0', 'class 1', 'class 2']
    (tmp_path / 'classes.txt').write_text('\n'.join(CLASSES) + '\n')
    assert open_image_sets(root, [tmp_path / 'train.txt'])[0].classes == list(CLASSES)


def test_coco(tmp_path):
    write_tiny_set(tmp_path, images=3)
    content = json.loads((tmp_path / 'coco.json').read_text())
    found, = open_image_sets(tmp_path / 'images', [tmp_path / 'coco.json'])
    assert (len(found), found.classes, found.sizes[0]) == (3, ['apple', 'lime', 'plum'], (64, 64))
    assert sum(map(len, found.objects)) == len(content['annotations'])
    first = content['annotations'][0]
    assert found.objects[0][0]['bbox'] == first['bbox'] and found.objects[0][0]['label'] == first['category_id'] - 1


@pytest.mark.parametrize('text, message', [
    ('{"images" 3}', 'line 1, column'), ('{"images": [', 'ends in the middle'),
    ('{"images": []} garbage', 'Extra data at line 1, column 16'), ('{}', 'not a COCO file'),
    ('[]', 'not a COCO file'),
    ('{"images": [], "categories": [{"id": 1}]}', "'images' is empty"),
    ('{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "x"}], "annotations": '
     '[{"category_id": 5, "image_id": 1}]}', 'annotation number 0: category_id 5 is not in the file'),
    ('{"images": [{"id": 1, "file_name": "001.jpg"}], "categories": [{"id": 1, "name": "x"}]}', 'it is in .*images')])
def test_invalid_coco_files_are_reported(tmp_path, text, message):
    write_tiny_set(tmp_path, images=1)
    (tmp_path / 'bad.json').write_text(text)
    with pytest.raises(UserError, match=message):
        open_image_sets(tmp_path, [tmp_path / 'bad.json'])


def test_other_invalid_inputs_are_reported(tmp_path):
    with pytest.raises(UserError, match='is not a folder'):
        open_image_sets(tmp_path / 'none')
    with pytest.raises(UserError, match='no folders'):
        open_image_sets(tmp_path)
    write_class_folders(tmp_path / 'set', per_class=1)
    for second in ('Fat Hen/00.png', 'Fat Hen/00.png ²', ''):  # mmpretrain stops at a blank line
        (tmp_path / 'l.txt').write_text(f'Maize/00.png 2\n{second}\nFat Hen/00.png 1')
        with pytest.raises(UserError, match='l.txt, line 2: .*path label'):
            open_image_sets(tmp_path / 'set', [tmp_path / 'l.txt'])
    (tmp_path / 'val.txt').write_text('Maize/00.png 2\n')
    (tmp_path / 'b.txt').write_text('Maize/00.png 2\n')
    with pytest.raises(UserError, match='val, b; give only the training split'):
        training_set(tmp_path / 'set', [tmp_path / 'val.txt', tmp_path / 'b.txt'])
