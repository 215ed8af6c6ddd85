import json
import shutil

import pytest

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.cli import check


@pytest.fixture
def folder(tmp_path):
    return write_tiny_set(tmp_path / 'set', images=4)


def test_a_valid_set(folder, capsys):
    assert check.main([str(folder / 'coco.json'), '--images', str(folder / 'images')]) == 0
    assert capsys.readouterr().out == f'read: 4 images and 5 annotations of {folder}/coco.json\nno errors\n'


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
    assert lines[0] == 'error: 1 x classes without images: empty' and 'b.jpg' in lines[1]
    assert lines[2:] == [f'read: 3 images in 3 folders of {tmp_path}/classes', '2 errors']


def test_the_sets_of_a_config(folder, monkeypatch, capsys):
    monkeypatch.setenv('TINY_SET', str(folder))
    (folder / 'images' / '001.jpg').unlink()
    assert check.main(['--config', str(CONFIG), '--split', 'val']) == 1
    assert '001.jpg' in capsys.readouterr().out
