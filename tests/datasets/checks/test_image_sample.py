"""Images of a data set before a run: sizes, unreadable and 16-bit files, each kind in one line with its count."""

import json
import shutil

import pytest
from PIL import Image

from tests.datasets.image_writer import PIXELS, write_deep, write_rotated
from vitdet_plugin.datasets.checks import image_sample
from vitdet_plugin.datasets.checks.class_folders import check_folder_dataset
from vitdet_plugin.datasets.checks.detection_data import check_dataset
from vitdet_plugin.datasets.image_reader import DEFAULT_READER


def findings(folder, sizes):
    return image_sample.check_image_sample(str(folder), list(sizes), list(sizes.values()), DEFAULT_READER, 'a.json')


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_sizes_before_the_orientation_are_errors(tmp_path, orientation):
    for name in 'abc':
        write_rotated(tmp_path / f'{name}.jpg', orientation)
    assert findings(tmp_path, {'a.jpg': (8, 12), 'b.jpg': (8.0, 12.0), 'c.jpg': None}) == []
    ((level, text),) = findings(tmp_path, {'a.jpg': (12, 8), 'b.jpg': (12, 8), 'c.jpg': (8, 12)})
    assert level == 'error' and text.startswith('2 of the 3 images checked, for example ')
    assert 'a.jpg: has another size than annotated (8 x 12, annotated 12 x 8' in text
    assert f'EXIF orientation that readers apply ({orientation}): remove it' in text


@pytest.mark.parametrize('orientation', [2, 3, 4])
def test_reflections_and_half_turns_keep_the_size(tmp_path, orientation):
    write_rotated(tmp_path / 'a.jpg', orientation)
    assert findings(tmp_path, {'a.jpg': (12, 8)}) == []


def test_sizes_of_images_that_are_not_decoded_are_compared_too(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sample, 'IMAGE_SAMPLE', 2)
    for number in range(5):
        write_rotated(tmp_path / f'{number}.jpg')
    ((_, text),) = findings(tmp_path, {f'{number}.jpg': (8, 12) if number != 3 else (12, 8) for number in range(5)})
    assert '3.jpg: has another size than annotated' in text


def test_unreadable_deep_and_missing_files(tmp_path):
    for name in ('a.tif', 'b.tif'):
        Image.fromarray(PIXELS[..., 0]).convert('F').save(tmp_path / name)
    write_deep(tmp_path / 'c.png')
    levels, texts = zip(*findings(tmp_path, dict.fromkeys(['a.tif', 'b.tif', 'c.png'])))
    assert levels == ('error', 'warning') and texts[0].startswith('2 of the 3 images checked, for example ')
    assert 'a.tif: cannot be read by OpenCV, as in training (32-bit F TIFF; convert it to 8 bits)' in texts[0]
    assert 'c.png: has more than 8 bits per channel (16 bits, values 0 to 4095 are read as 0 to 15' in texts[1]
    ((_, text),) = findings(tmp_path, {'x\\c.png': None})
    assert 'write / instead of \\ in file_name' in text


def test_the_reader_of_the_pipeline_decides(tmp_path):
    write_rotated(tmp_path / 'a.jpg')
    content = dict(images=[dict(id=1, file_name='a.jpg', width=12, height=8)], categories=[dict(id=1, name='x')],
                   annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0)])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    cfg = dict(type='CocoDataset', ann_file=str(tmp_path / 'a.json'), data_prefix=dict(img=str(tmp_path)),
               metainfo=dict(classes=('x',)))
    (finding,) = check_dataset('train', cfg, True)
    assert finding.level == 'error' and 'annotated 12 x 8' in finding.text
    load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    assert check_dataset('train', dict(cfg, pipeline=[load]), True) == []


def test_class_folders(tmp_path):
    """Images that mmpretrain does not read and images with 16 bits are warnings."""
    from vitdet_plugin.config.registry import import_scope
    import_scope('mmpretrain')
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        write_deep(tmp_path / name / '1.png')
    cfg = dict(type='CustomDataset', data_prefix=str(tmp_path))
    ((_, text),) = check_folder_dataset('train', cfg, True)
    assert text.startswith('train: 2 of the 2 images checked') and 'nearly black' in text
    for name in ('a', 'b'):
        Image.fromarray(PIXELS).save(tmp_path / name / '1.png')
    shutil.copy(tmp_path / 'a/1.png', tmp_path / 'a/2.WEBP')
    ((level, text),) = check_folder_dataset('train', cfg, True)
    assert level == 'warning' and '1 images in' in text and '2.WEBP' in text and 'add .webp to extensions' in text
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbfa/1.png 0\n')
    listed = dict(cfg, ann_file=str(tmp_path / 'list.txt'), metainfo=dict(classes=('a', 'b')))
    ((level, text),) = check_folder_dataset('train', listed, True)
    assert level == 'error' and 'begins with a byte order mark' in text
