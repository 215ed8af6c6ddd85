"""File names that are not UTF-8, as archives of old systems have them, names of classes likewise, and long names."""

import json
import os
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.datasets.tiny_classes import write_class_folders
from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.cli import cam, check, init, predict, split, stats

MISNAMED = os.fsdecode(b'm\xe4use.png')
SHOWN = r'm\udce4use.png'
EVERY_FORMAT = 'json,csv,yolo,labelme,coco,jsonl'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Config and checkpoint of a detector with random weights."""
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    path = tmp_path_factory.mktemp('model') / 'w.pth'
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(CONFIG).model).state_dict()), path)
    return [str(CONFIG), str(path)]


@pytest.fixture
def images(tmp_path):
    write_tiny_set(tmp_path / 'set', images=2)
    folder = tmp_path / 'images'
    folder.mkdir()
    shutil.copy(tmp_path / 'set/images/001.jpg', folder / 'a.png')
    return folder


@pytest.fixture
def classes(tmp_path):
    root = write_class_folders(tmp_path / 'classes', 8)
    os.rename(root / 'Maize/00.png', root / 'Maize' / MISNAMED)
    return root


def test_predict_leaves_them_out(model, images, tmp_path, capsys):
    shutil.copy(images / 'a.png', images / MISNAMED)
    out = tmp_path / 'out'
    assert predict.main([*model, str(images), '--out', str(out), '--format', EVERY_FORMAT, '--device', 'cpu']) == 1
    assert f'left out: {images}/{SHOWN} has a name that is not UTF-8; rename it' in capsys.readouterr().err
    assert [path.name for path in out.glob('*.jpg')] == ['a.jpg'] and len(json.loads(
        (out / 'predictions.json').read_text())) == 1
    assert predict.main([*model, str(images / MISNAMED), '--out', str(out), '--device', 'cpu']) == 2


def test_the_folder_of_the_results_may_have_such_a_name(model, images, tmp_path, capsys):
    out = tmp_path / MISNAMED
    assert predict.main([*model, str(images), '--out', str(out), '--device', 'cpu']) == 0
    assert (out / 'a.jpg').is_file() and SHOWN in capsys.readouterr().out


def test_cam_leaves_them_out(model, images, tmp_path, capsys):
    shutil.copy(images / 'a.png', images / MISNAMED)
    assert cam.main([*model, str(images), '--out', str(tmp_path / 'out'), '--device', 'cpu', '--score-thr', '0']) == 1
    assert SHOWN in capsys.readouterr().err and os.listdir(tmp_path / 'out') == ['a.jpg']


def test_data_sets_name_them(classes, tmp_path, capsys):
    assert check.main([str(classes)]) == 1
    assert f'error: 1 x image has a name that is not UTF-8: {classes}/Maize/{SHOWN}' in capsys.readouterr().out
    assert stats.main([str(classes), '--out', str(tmp_path / 'stats')]) == 0
    assert f'Maize/{SHOWN} (has a name that is not UTF-8' in (tmp_path / 'stats/stats.txt').read_text()
    assert split.main([str(classes), '--out', str(tmp_path / 'split')]) == 0
    assert f'1 images whose names are not UTF-8 are left out: Maize/{SHOWN}' in capsys.readouterr().err
    rows = [line for path in (tmp_path / 'split').glob('[!c]*.txt') for line in path.read_text().splitlines()]
    assert len(rows) == 23
    assert init.main([str(classes), '--model', 'tiny', '--image-size', '64', '--out', str(tmp_path / 'run')]) == 0
    assert SHOWN in (tmp_path / 'run/problems.txt').read_text()


def test_a_class_folder_with_such_a_name_is_one_line(classes, tmp_path, capsys):
    os.rename(classes / 'Maize', classes / os.fsdecode(b'Ma\xefs'))
    for command in (init, split):
        assert command.main([str(classes), '--out', str(tmp_path / 'out')]) == 2
        assert r"the class name 'Ma\udcefs' is not UTF-8" in capsys.readouterr().err
    assert stats.main([str(classes), '--out', str(tmp_path / 'stats')]) == 0
    assert r'Ma\udcefs' in (tmp_path / 'stats/stats.txt').read_text()


def test_a_category_that_is_not_unicode(tmp_path, capsys):
    root = write_tiny_set(tmp_path / 'set', images=4)
    (path,) = root.glob('*.json')
    content = json.loads(path.read_text())
    content['categories'][0]['name'] = '\ud800'
    path.write_text(json.dumps(content))
    assert check.main([str(path), '--images', str(root / 'images')]) == 1
    assert r"categories whose name is not valid Unicode text: number 0: '\ud800'" in capsys.readouterr().out
    assert check.main([str(root)]) == 1
    assert init.main([str(root), '--model', 'tiny', '--out', str(tmp_path / 'run')]) == 2
    assert r"the class name '\ud800' is not UTF-8" in capsys.readouterr().err and not (tmp_path / 'run').exists()


def test_the_longest_names_are_predicted_or_named(model, images, tmp_path, capsys):
    """Files of LabelMe have a longer suffix than the image."""
    name = 'x' * 251
    shutil.copy(images / 'a.png', images / f'{name}.png')
    out = tmp_path / 'out'
    assert predict.main([*model, str(images), '--out', str(out), '--device', 'cpu', '--format', 'yolo']) == 0
    assert {path.name for path in out.glob('*.jpg')} == {'a.jpg', f'{name}.jpg'}
    assert (out / 'labels' / f'{name}.txt').is_file()
    assert predict.main([*model, str(images), '--out', str(out), '--device', 'cpu', '--format', 'labelme']) == 1
    assert f'{name}.json could not be saved: its name is too long' in capsys.readouterr().err
    assert os.listdir(out / 'labelme') == ['a.json']
