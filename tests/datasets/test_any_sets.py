"""Statistics and splits of data sets as downloaded: their objects count, not their folders."""

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.reading import write, write_image
from tests.datasets.formats.samples import SAMPLES, write_sample
from vitdet_plugin.cli.main import main
from vitdet_plugin.datasets.any_sets import open_any_sets


@pytest.mark.parametrize('name', ['voc', 'roboflow yolo', 'vott', 'kitti', 'coco', 'supervisely'])
def test_objects_of_a_data_set_as_downloaded(tmp_path, capsys, name):
    _, images, files = SAMPLES[name]
    write_sample(tmp_path / 'data', images, files)
    (found,), what = open_any_sets(tmp_path / 'data')
    assert found.classes == ['cat'] and len(found) == 1 and what.startswith(SAMPLES[name][0])
    ((each,),) = found.objects
    assert each['bbox'] == pytest.approx([10, 20, 30, 40], abs=1) and found.path(0).is_file()
    assert main(['stats', str(tmp_path / 'data')]) in (0, None)
    shown = capsys.readouterr().out
    assert shown.startswith(what) and 'cat' in shown
    assert main(['split', str(tmp_path / 'data'), '--out', str(tmp_path / 'out')]) == 2
    assert 'vitdet' in capsys.readouterr().err and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('has_boxes', [False, True])
def test_a_folder_of_init_and_class_folders(tmp_path, monkeypatch, capsys, has_boxes):
    monkeypatch.chdir(tmp_path)
    names = [f'{number}.jpg' if has_boxes else f'{name}/{number}.jpg'
             for number in range(6) for name in ('cats', 'dogs')]
    rng = np.random.default_rng(0)
    for name in names:
        path = write_image(tmp_path / 'data' / name)
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(path)
    names = list(dict.fromkeys(names))
    if has_boxes:
        write(tmp_path / 'data/x.csv', 'filename,class,xmin,ymin,xmax,ymax\n' + ''.join(
            f'{name},{label},{x},5,{x + 20},25\n' for name in names for label, x in (('cats', 1), ('dogs', 25))))
    else:
        assert open_any_sets(tmp_path / 'data')[1] == ''
    assert main(['init', 'data', '--model', 'tiny', '--val-fraction', '0.5']) == 0
    sets, what = open_any_sets(tmp_path / 'runs/data')
    assert [each.name for each in sets] == ['train', 'val'] and 'config.py' in what
    assert all(each.classes == ['cats', 'dogs'] for each in sets) and sum(map(len, sets)) == len(names)
    capsys.readouterr()
    assert main(['stats', 'runs/data']) in (0, None) and 'cats' in capsys.readouterr().out


def test_what_cannot_be_converted_is_counted(tmp_path, capsys):
    _, images, files = SAMPLES['kitti']
    write_sample(tmp_path, images, {name: f'{text}cat 1 2\n' for name, text in files.items()})
    assert main(['stats', str(tmp_path)]) in (0, None)
    assert '1 objects or files cannot be converted' in capsys.readouterr().out


def test_annotations_that_are_not_read_are_no_classes(tmp_path, capsys):
    for name in ('cats/a.jpg', 'dogs/b.jpg'):
        write_image(tmp_path / name)
    write(tmp_path / 'anno.mat', 'MATLAB 5.0')
    for command in (['stats', str(tmp_path)], ['split', str(tmp_path), '--out', str(tmp_path / 'out')]):
        assert main(command) == 2
        assert 'anno.mat is a MATLAB file' in capsys.readouterr().err
