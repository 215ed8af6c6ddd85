"""``vitdet predict``: drawn images and a record of the detections; one line for mistakes."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.cli import predict


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('predict')
    write_tiny_set(folder / 'set', images=2)
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(CONFIG).model).state_dict()), folder / 'w.pth')
    return folder


def test_draws_and_records(folder, capsys):
    status = predict.main([str(CONFIG), str(folder / 'w.pth'), str(folder / 'set/images'), '--out',
                           str(folder / 'out'), '--score_thr', '0.1', '--device', 'cpu'])
    assert status == 0
    assert sorted(file.name for file in (folder / 'out').iterdir()) == ['001.jpg', '002.jpg', 'predictions.json']
    record = json.loads((folder / 'out' / 'predictions.json').read_text())
    assert [len(found['boxes']) for found in record] == [len(found['masks']) for found in record]
    assert all(score >= 0.1 for found in record for score in found['scores'])
    assert capsys.readouterr().out.splitlines()[-1].startswith('2 images in')


def test_an_error_is_one_line(folder, capsys):
    status = predict.main([str(CONFIG), str(folder / 'w.pth'), str(folder / 'none'), '--out', 'x'])
    assert status == 2
    assert capsys.readouterr().err == f'error: {folder}/none does not exist; give an image or a folder of images\n'
