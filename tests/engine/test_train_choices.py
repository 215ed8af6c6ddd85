"""Which images a training draws: --balance-classes and --background, on a small set with two background images."""

import json

import cv2
import numpy as np
import pytest
import torch

from tests.configs.loading import load
from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.api import train
from vitdet_plugin.cli.train import parse_args
from vitdet_plugin.engine.train import TrainOptions, apply_train_options
from vitdet_plugin.engine.train_choices import select_images
from vitdet_plugin.errors import UserError


@pytest.fixture
def with_background(tmp_path, monkeypatch):
    """Two images with objects and two without."""
    folder = write_tiny_set(tmp_path / 'set', images=2)
    content = json.loads((folder / 'coco.json').read_text())
    for number in (3, 4):
        cv2.imwrite(str(folder / 'images' / f'{number:03}.jpg'), np.full((64, 64, 3), 90 + number, np.uint8))
        content['images'].append(dict(id=number, file_name=f'{number:03}.jpg', width=64, height=64))
    (folder / 'coco.json').write_text(json.dumps(content))
    monkeypatch.setenv('TINY_SET', str(folder))
    return folder


def iterations(folder):
    return torch.load(next(folder.glob('epoch_1.pth')), weights_only=False)['meta']['iter']


@pytest.mark.parametrize(('background', 'expected'), [('keep', 4), ('drop', 2)])
def test_background_images_are_trained_on_or_left_out(with_background, tmp_path, background, expected):
    """With batches of one image, some have no objects at all."""
    train(str(CONFIG), work_dir=tmp_path / 'run', background=background, skip_preflight=True, validate=False,
          balance_classes=1.0, cfg_options={'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 1})
    assert iterations(tmp_path / 'run') == expected


def test_options_of_the_command():
    args = parse_args(['--balance-classes', 'config.py', '--background', 'keep'])
    assert (args.config, args.balance_classes, args.background) == ('config.py', 0.5, 'keep')
    assert parse_args(['config.py', '--balance-classes', '1']).balance_classes == 1
    assert parse_args(['config.py']).balance_classes is None


def test_the_sampler_ends_as_the_config_says(tiny_config):
    apply_train_options(tiny_config, TrainOptions(balance_classes=0.5))
    assert tiny_config.train_dataloader.sampler == dict(type='ClassBalancedSampler', power=0.5, infinite=False)
    tiny_config.train_dataloader.sampler = dict(type='InfiniteSampler')
    select_images(tiny_config, 0.5, None)
    assert tiny_config.train_dataloader.sampler.infinite


def test_mistakes(tiny_config):
    with pytest.raises(UserError, match='--background none: must be keep or drop'):
        select_images(tiny_config, None, 'none')
    tiny_config.train_dataloader.batch_sampler = dict(type='RectangleBatchSampler')
    with pytest.raises(UserError, match='RectangleBatchSampler chooses the images'):
        select_images(tiny_config, 0.5, None)
    with pytest.raises(UserError, match='no annotations of objects'):
        select_images(load('classification/vit-tiny_50e_plant-seedlings').copy(), None, 'keep')
