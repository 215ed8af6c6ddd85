"""``vitdet train DATA``: from a data set as downloaded to a trained model in one command."""

import shutil

import pytest

from tests.end_to_end.tiny_set import write_tiny_set
from vitdet_plugin.cli.init import is_data
from vitdet_plugin.cli.main import main

OPTIONS = ['--cfg-options', 'max_iters=2', 'batch=2', 'image_size=64', *(
    f'{split}_dataloader.{key}' for split in ('train', 'val') for key in ('num_workers=0', 'persistent_workers=False'))]


def test_one_command_from_data_to_a_model(folder, capsys):
    write_tiny_set(folder / 'fruits', images=10)
    assert main(['train', 'fruits', *OPTIONS]) == 0
    shown = capsys.readouterr().out
    assert 'format     coco' in shown and '8 train, 2 val' in shown and 'training on runs/fruits' in shown
    assert shown.rstrip().endswith('use it') and 'vitdet report runs/fruits ' in shown
    assert {'iter_2.pth', 'config.py'} <= {path.name for path in (folder / 'runs' / 'fruits' / 'run').iterdir()}

    config = (folder / 'runs' / 'fruits' / 'config.py').read_bytes()
    assert main(['train', 'fruits', '--resume', *OPTIONS[:1], 'max_iters=3', *OPTIONS[2:]]) == 0
    shown = capsys.readouterr().out
    assert 'runs/fruits was written for this data set before' in shown and 'format ' not in shown
    assert (folder / 'runs' / 'fruits' / 'run' / 'iter_3.pth').is_file()
    assert (folder / 'runs' / 'fruits' / 'config.py').read_bytes() == config


def test_options_of_init(folder, capsys):
    write_tiny_set(folder / 'fruits', images=10)
    choices = ['--model', 'yolov5-tiny', '--epochs', '3', '--batch', '4', '--image-size', '64', '--val-fraction', '0.3']
    assert main(['train', 'fruits', *choices, *OPTIONS[:2], *OPTIONS[4:]]) == 0
    written = (folder / 'runs' / 'fruits' / 'config.py').read_text()
    assert '7 train, 3 val images' in written.splitlines()[0] and 'yolov5' in written
    assert 'image_size = 64 ' in written and 'max_iters = 6 ' in written and 'batch = 4 ' in written
    assert (folder / 'runs' / 'fruits' / 'run' / 'iter_2.pth').is_file()
    capsys.readouterr()

    resumed = ['--resume', '--cfg-options', 'max_iters=3', *OPTIONS[4:]]
    assert main(['train', 'fruits', *choices, *resumed]) == 0
    assert main(['train', 'fruits', *choices[:2], *resumed]) == 2
    shown = capsys.readouterr().err
    assert 'was written for this data set with --model yolov5-tiny --val-fraction 0.3 --image-size 64' in shown
    assert 'remove or rename it to read the data again with --model yolov5-tiny\n' in shown
    assert main(['train', 'runs/fruits', '--epochs', '3']) == 2
    assert '--epochs 3: for a data set, and runs/fruits is a config' in capsys.readouterr().err
    assert main(['train', 'runs/fruit', '--epochs', '3']) == 2
    assert 'config runs/fruit does not exist' in capsys.readouterr().err


def test_a_folder_of_other_data_is_not_used(folder, capsys):
    write_tiny_set(folder / 'a' / 'fruits')
    write_tiny_set(folder / 'b' / 'fruits')
    assert main(['init', 'a/fruits', '--model', 'tiny']) == 0
    assert main(['train', 'b/fruits', *OPTIONS]) == 2
    assert 'runs/fruits exists and was not written for b/fruits' in capsys.readouterr().err


def test_errors_of_the_data_leave_nothing_behind(folder, capsys, monkeypatch):
    write_tiny_set(folder / 'fruits')
    monkeypatch.setattr('vitdet_plugin.datasets.checks.whole_set.check_config',
                        lambda config, split, *more: [('error', 'a fault of an image', f'{split}.jpg')])
    assert main(['train', 'fruits', *OPTIONS]) == 2
    assert 'the checks above found 2 errors: correct the data, and start again' in capsys.readouterr().err
    assert not (folder / 'runs' / 'fruits').exists()


def test_what_is_neither_config_nor_data_is_named(folder, capsys):
    (folder / 'empty').mkdir()
    assert main(['train', 'empty']) == 2
    assert 'empty' in capsys.readouterr().err
    assert not (folder / 'runs').exists()


@pytest.mark.parametrize('words, environment', [(['--launcher', 'pytorch'], {}), ([], {'RANK': '0'})])
def test_several_processes_need_vitdet_init(folder, capsys, monkeypatch, words, environment):
    write_tiny_set(folder / 'fruits')
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(['train', 'fruits', *words]) == 2
    assert 'run "vitdet init" first' in capsys.readouterr().err


def test_what_counts_as_data(folder):
    write_tiny_set(folder / 'fruits')
    shutil.make_archive('fruits', 'zip', folder / 'fruits')
    (folder / 'boxes.csv').write_text('filename,xmin,ymin,xmax,ymax,class\n')
    (folder / 'data.yaml').write_text('train: images/train\nnames: [a, b]\n')
    (folder / 'config.json').write_text('{"_base_": "work/config.py"}')
    (folder / 'broken.json').write_text('{')
    (folder / 'config.yaml').write_text('model:\n  type: FasterRCNN\nnames: [a]\n')
    (folder / 'work').mkdir()
    (folder / 'work' / 'config.py').write_text('')
    assert all(is_data(path) for path in ('fruits', 'fruits.zip', 'boxes.csv', 'data.yaml', 'fruits/coco.json'))
    assert not any(is_data(path) for path in ('work', 'work/config.py', 'config.yaml', 'config.json', 'broken.json',
                                              'vitdet_demo', 'nothing',
                                              'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'))
