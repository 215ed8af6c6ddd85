import json
import shutil

import cv2
import numpy as np
import pytest

from tests.datasets.tiny_classes import write_class_folders
from tests.end_to_end.tiny_set import load_tool, write_tiny_set
from vitdet_plugin.datasets.image_sets import open_image_sets
from vitdet_plugin.datasets.set_stats import collect_stats


@pytest.fixture
def photo():
    rows, columns = np.mgrid[:60, :80]
    return (np.stack([rows * 3, columns * 3, 90 + 60 * np.sin(rows * columns / 200)], 2)).astype(np.uint8)


def test_classes_unreadable_files_and_duplicates(tmp_path, photo):
    for split, seed in (('train', 0), ('val', 1)):
        write_class_folders(tmp_path / 'my set' / split, per_class=3, suffixes=('.png',), seed=seed)
    train, val = tmp_path / 'my set' / 'train', tmp_path / 'my set' / 'val'
    shutil.copy(train / 'Maize' / '00.png', val / 'Fat Hen' / 'copy.png')
    cv2.imwrite(str(train / 'Maize' / 'photo.png'), photo)
    cv2.imwrite(str(train / 'Maize' / 'smaller.jpg'), cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA))
    (val / 'Maize' / 'broken.jpg').write_bytes(b'x')
    stats = collect_stats(open_image_sets(tmp_path / 'my set'), near_bits=16)
    assert [split.class_images for split in stats.splits] == [[3, 3, 5], [3, 4, 4]]
    assert stats.splits[1].broken == {'Maize/broken.jpg': 'has no known image format'}
    assert stats.duplicates == [[('train', 'Maize/00.png', 'Maize'), ('val', 'Fat Hen/copy.png', 'Fat Hen')]]
    assert stats.similar == [[('train', 'Maize/photo.png', 'Maize'), ('train', 'Maize/smaller.jpg', 'Maize')]]
    text = str(stats)
    assert 'in several splits' in text and 'in several classes' in text
    assert 'broken: 1: Maize/broken.jpg (has no known image format)' in text


def test_objects_of_a_coco_set(tmp_path):
    write_tiny_set(tmp_path, images=3)
    content = json.loads((tmp_path / 'coco.json').read_text())
    content['annotations'] = [each for each in content['annotations'] if each['image_id'] != 3]
    first = content['annotations'][0]
    content['annotations'] += [{**first, 'id': 900, 'bbox': [60, 0, 10, 5]}, {**first, 'id': 901, 'bbox': [0, 0, 0, 5]},
                               {**first, 'id': 902, 'bbox': [0, 0, float('nan'), 5]}]
    content['images'][1]['width'] = 50
    (tmp_path / 'odd.json').write_text(json.dumps(content))
    split = collect_stats(open_image_sets(tmp_path / 'images', [tmp_path / 'odd.json'])).splits[0]
    assert sum(split.class_objects) == len(content['annotations'])
    assert split.objects_in_image.count(0) == 1 and sum(split.objects_in_image) == len(content['annotations'])
    assert [each.split()[-1] for each in split.odd_boxes if each.startswith('001.jpg')] == ['900', '901', '902']
    assert split.wrong_sizes == ['002.jpg: 64 x 64, annotated 50 x 64']
    assert len(split.box_sizes) == len(content['annotations']) - len(split.odd_boxes)


def test_command_writes_text_json_and_a_figure(tmp_path, capsys):
    write_class_folders(tmp_path / 'a set', per_class=2)
    write_tiny_set(tmp_path / 'coco', images=2)
    command = load_tool('dataset/stats').main
    assert command([str(tmp_path / 'a set'), '--out', str(tmp_path / 'my out')]) == 0
    assert command([str(tmp_path / 'coco/images'), '--ann', str(tmp_path / 'coco/coco.json'), '--out',
                    str(tmp_path / 'coco out')]) == 0
    for out in ('my out', 'coco out'):
        assert cv2.imread(str(tmp_path / out / 'stats.png')).std() > 10
        assert 'all' in (tmp_path / out / 'stats.txt').read_text()
    record = json.loads((tmp_path / 'my out' / 'stats.json').read_text())
    assert record['splits']['a set']['class_images'] == [2, 2, 2]
    assert record['splits']['a set']['sizes'] == {'40x32': 6}
    assert 'Fat Hen' in capsys.readouterr().out
    assert command([str(tmp_path / 'none')]) == 2
