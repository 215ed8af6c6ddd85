import json
import shutil

import pytest

from tests.datasets.own_data.drawn_sets import drawn_set
from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.cli import check
from vitdet_plugin.cli.main import main


@pytest.fixture
def folder(tmp_path):
    return write_tiny_set(tmp_path / 'set', images=4)


def test_a_valid_set(folder, capsys):
    assert check.main([str(folder / 'coco.json'), '--images', str(folder / 'images')]) == 0
    read, last = capsys.readouterr().out.splitlines()
    assert read.startswith(f"read: {folder / 'coco.json'}: 4 images, ") and last == 'no errors'
    assert '3 categories; images in ' in read


def test_errors_are_counted_named_and_written(folder, tmp_path, capsys):
    content = json.loads((folder / 'coco.json').read_text())
    content['annotations'][0]['category_id'] = 9
    content['images'][3]['width'] = 65
    (folder / 'coco.json').write_text(json.dumps(content))
    (folder / 'images' / '002.jpg').write_bytes(b'')
    (folder / 'images' / '003.jpg').unlink()
    words = [str(folder / 'coco.json'), '--images', str(folder / 'images'), '--json', str(tmp_path / 'out.json')]
    assert check.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith('error: 1 x image is empty: ') and '002.jpg' in line for line in lines)
    assert any('image is missing' in line and '003.jpg' in line for line in lines)
    assert any('64 x 64, annotated 65 x 64' in line for line in lines)
    assert any(line.startswith('left out: 1 x annotations of categories') for line in lines)
    assert lines[-1] == '4 errors'  # with: more than 1 % of the annotations left out
    assert len([each for each in json.loads((tmp_path / 'out.json').read_text()) if each['level'] == 'error']) == 4


def test_broken_json_and_wrong_paths(folder, capsys):
    (folder / 'coco.json').write_text('{"images": [],\n "categories": [}')
    assert check.main([str(folder / 'coco.json')]) == 1
    assert 'line 2, column 17' in capsys.readouterr().out
    for words, says in (([], 'give an annotation file'), ([str(folder / 'no.json')], 'no.json does not exist'),
                        (['--config', 'no.py'], 'no.py does not exist')):
        assert check.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ') and says in line


def test_class_folders(folder, tmp_path, capsys):
    for name in ('cat', 'dog', 'empty'):
        (tmp_path / 'classes' / name).mkdir(parents=True)
    for name in ('cat', 'dog'):
        shutil.copy(folder / 'images' / '001.jpg', tmp_path / 'classes' / name)
    (tmp_path / 'classes' / 'dog' / 'b.jpg').write_bytes(b'GIF')
    assert check.main([str(tmp_path / 'classes')]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"read: {tmp_path / 'classes'}: 3 folders of classes, 3 images"
    assert lines[1] == 'error: 1 x classes without images: empty' and 'b.jpg' in lines[2] and lines[3] == '2 errors'


def test_the_sets_of_a_config(folder, monkeypatch, capsys):
    monkeypatch.setenv('TINY_SET', str(folder))
    (folder / 'images' / '001.jpg').unlink()
    assert check.main(['--config', str(CONFIG), '--split', 'val']) == 1
    assert '001.jpg' in capsys.readouterr().out


def test_what_was_read_and_what_was_not(folder, tmp_path, capsys):
    config = tmp_path / 'c.py'
    sets = [dict(type='VOCDataset', data_root=str(folder), ann_file='train.txt'),
            dict(type='CocoDataset', ann_file='s3://bucket/a.json'),
            dict(type='CocoDataset', ann_file=str(folder / 'coco.json'), data_prefix=dict(img=str(folder / 'images')))]
    for chosen, last in ((sets, 'no errors in what was read'), (sets[:2], 'nothing was checked')):
        config.write_text(f'train_dataloader = dict(dataset=dict(type="ConcatDataset", datasets={chosen!r}))')
        assert check.main(['--config', str(config)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith('not read: train_dataloader.dataset.datasets.0 (VOCDataset): neither a COCO file')
        assert lines[1] == 'not read: train_dataloader.dataset.datasets.1 (CocoDataset): in remote storage'
        assert lines[-1] == last and len(lines) == len(chosen) + 1


def test_list_files_and_folders_of_splits(folder, tmp_path, capsys):
    for split in ('train', 'val'):
        (tmp_path / 'classes' / split / 'cat').mkdir(parents=True)
        shutil.copy(folder / 'images' / '001.jpg', tmp_path / 'classes' / split / 'cat')
    assert check.main([str(tmp_path / 'classes')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(': ')[1] for line in lines[:2]] == [str(tmp_path / 'classes' / split) for split in
                                                           ('train', 'val')]
    (tmp_path / 'list.txt').write_text('001.jpg 0\n002.jpg 1\nno.jpg 1\n')
    assert check.main([str(tmp_path / 'list.txt'), '--images', str(folder / 'images')]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"read: {tmp_path / 'list.txt'}: 3 images; in") and 'no.jpg' in lines[1]
    (tmp_path / 'list.txt').write_text('{"images": []}')
    assert check.main([str(tmp_path / 'list.txt')]) == 1
    assert f"{tmp_path / 'list.txt'}, line 1: expected" in capsys.readouterr().out
    assert check.main([str(folder)]) == 0  # a COCO file and its images
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'read: {folder}: coco: 1 COCO file (coco.json)') and lines[-1] == 'no errors'


def test_a_folder_of_init_and_a_data_set_in_another_format(tmp_path, capsys):
    image, other = drawn_set(tmp_path / 'data', 6).images[:2]
    for path in sorted((tmp_path / 'data').rglob('*.png')):
        path.with_suffix('.txt').write_text('0 0.5 0.5 0.2 0.2\n')
    image.path.with_suffix('.txt').write_text('0 0.5 0.5 0.2\n')
    assert check.main([str(tmp_path / 'data')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"read: {tmp_path / 'data'}: yolo: ") and lines[0].endswith('6 images, 5 objects')
    assert lines[1].startswith('left out: 1 x objects or files that cannot be converted: ')
    assert f"{image.path.with_suffix('.txt')}:1: " in lines[1] and lines[-1] == 'no errors'

    assert main(['init', str(tmp_path / 'data'), '--model', 'tiny', '--out', str(tmp_path / 'run')]) == 0
    capsys.readouterr()
    assert check.main([str(tmp_path / 'run')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(': ')[1] for line in lines if line.startswith('read: ')] == [
        str(tmp_path / 'run' / 'annotations' / f'{split}.json') for split in ('train', 'val')]
    assert not [line for line in lines if 'without a mask' in line] and lines[-1] == 'no errors'
    image.path.unlink()  # left out, since its only row was refused
    assert check.main([str(tmp_path / 'run')]) == 0
    other.path.unlink()
    assert check.main([str(tmp_path / 'run')]) == 1
    assert 'image is missing' in capsys.readouterr().out


def test_a_folder_with_two_formats_takes_one_by_name(folder, capsys):
    (folder / 'images' / '001.txt').write_text('0 0.5 0.5 0.2 0.2\n')
    assert check.main([str(folder)]) == 2
    assert '--format' in capsys.readouterr().err
    assert check.main([str(folder), '--format', 'coco']) == 0
    assert capsys.readouterr().out.startswith(f'read: {folder}: coco: ')
