"""``load_from`` reads the same files as ``init_cfg``: wrappers, keys, kinds of files, depth."""

import os

import pytest
import torch
from mmengine.registry import init_default_scope
from safetensors.torch import save_file

from tests.checkpoints.models import randomize
from tests.faults.rig import STEPS, train_here, write_config
from vitdet_plugin.engine.check_weights import WeightFile, check_keys, is_official
from vitdet_plugin.engine.initial_weights import drop_replaced_weights
from vitdet_plugin.engine.load_model import build_model
from vitdet_plugin.engine.preflight import _check_weights
from vitdet_plugin.engine.runners import build_runner
from vitdet_plugin.errors import UserError


@pytest.fixture
def source(tiny_config):
    init_default_scope('mmdet')
    return randomize(build_model(tiny_config), 1)


def torch_file(path, content):
    torch.save(content, path)


def wrapped(prefix):
    return lambda path, state: torch_file(path, dict(state_dict={f'{prefix}{name}': state[name] for name in state}))


WRITERS = {
    'mmengine': wrapped(''), 'twice': wrapped('module.module.'), 'compiled': wrapped('_orig_mod.'),
    'averaged': lambda path, state: torch_file(path, dict(model={}, model_ema=state)),
    'safetensors': lambda path, state: save_file(state, path)}


@pytest.mark.parametrize('kind', WRITERS)
def test_files(kind, tiny_config, tiny_set, source, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    WRITERS[kind](tmp_path / 'w.pth', source.state_dict())
    tiny_config.load_from = '~/w.pth' if kind in ('mmengine', 'compiled') else f'file://{tmp_path}/w.pth'
    tiny_config.work_dir = str(tmp_path / 'work')
    found = _check_weights(tiny_config, build_model(tiny_config), ['train'], None)
    assert not found
    runner = build_runner(tiny_config)
    runner.load_or_resume()
    state = runner.model.state_dict()
    assert all(torch.allclose(state[name], value, atol=1e-3) for name, value in source.state_dict().items())


def test_fewer_blocks_are_an_error(source, tiny_config, tmp_path):
    state = {name: value for name, value in source.state_dict().items() if '.blocks.1.' not in name}
    torch.save(dict(state_dict=state), tmp_path / 'w.pth')
    (found,) = check_keys('load_from', str(tmp_path / 'w.pth'), source, '', must_fit=False)
    assert found.level == 'error' and 'has 1 blocks in backbone.blocks, the model has 2' in found.text


def test_the_first_convolution_and_positions_are_fitted(source, tiny_config, tmp_path):
    state = source.state_dict()
    name = f'backbone.{source.backbone.stem_weight}'
    state[name] = torch.randn(len(state[name]), 1, *state[name].shape[2:])
    torch.save(dict(state_dict=state), tmp_path / 'w.pth')
    tiny_config.load_from = str(tmp_path / 'w.pth')
    tiny_config.work_dir = str(tmp_path / 'work')
    assert is_official(tiny_config.load_from, source)
    runner = build_runner(tiny_config)
    runner.load_or_resume()
    torch.testing.assert_close(runner.model.state_dict()[name], state[name].expand(-1, 3, -1, -1) / 3)


def test_a_backbone_alone(source, tiny_config, tmp_path):
    torch.save(source.backbone.state_dict(), tmp_path / 'w.pth')
    tiny_config.load_from, tiny_config.work_dir = str(tmp_path / 'w.pth'), str(tmp_path / 'work')
    runner = build_runner(tiny_config)
    runner.load_or_resume()
    state = runner.model.backbone.state_dict()
    assert all(torch.equal(state[name], value) for name, value in source.backbone.state_dict().items())


def test_init_cfg_of_the_whole_model(source, tiny_config, tmp_path):
    WRITERS['compiled'](tmp_path / 'w.pth', source.state_dict())
    tiny_config.model.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'w.pth'))
    runner = build_runner(tiny_config)
    runner._init_model_weights()
    state = runner.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in source.state_dict().items())


def test_options_of_init_cfg_reach_the_pre_flight(tmp_path):
    from vitdet_plugin.engine.check_weights import weight_files
    init = dict(type='Pretrained', checkpoint='a.pth', prefix='x.', key='model', map_location='cpu')
    assert list(weight_files(dict(model=dict(backbone=dict(init_cfg=init))))) == [
        WeightFile('model.backbone.init_cfg.checkpoint', 'a.pth', 'backbone', 'x.', dict(prefix='x.', key='model'))]


def test_weights_that_load_from_replaces_are_not_downloaded(source, tiny_config, tmp_path):
    state = source.state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'whole.pth')
    part = {name: state[name] for name in state if '.blocks.1.' not in name}
    torch.save(dict(state_dict=part), tmp_path / 'part.pth')
    url = 'https://example.org/backbone.pth'
    for load_from, checkpoint, dropped in [('whole.pth', url, url), ('part.pth', url, None),
                                           ('whole.pth', str(tmp_path / 'whole.pth'), None), (None, url, None)]:
        tiny_config.load_from = load_from and str(tmp_path / load_from)
        tiny_config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
        assert drop_replaced_weights(tiny_config) == dropped
        assert (tiny_config.model.backbone.init_cfg is None) == (dropped is not None)
    tiny_config.load_from = str(tmp_path / 'whole.pth')
    tiny_config.model.backbone = dict(type='ResNet', depth=18, init_cfg=dict(
        type='Pretrained', checkpoint='torchvision://resnet18'))  # of mmdet
    assert drop_replaced_weights(tiny_config) is None
    tiny_config.model.backbone.type = 'NoBackbone'
    assert drop_replaced_weights(tiny_config) is None


def test_a_resumed_training_does_not_need_the_weights_it_started_from(tiny_set, tmp_path, write_mae):
    path, _ = write_mae()
    config = write_config(tmp_path / 'c.py', tiny_set, STEPS.format(3)
                          + f"model.update(backbone=dict(drop_path_rate=0.3, init_cfg=dict(type='Pretrained', "
                            f"checkpoint={path!r})))\n")
    train_here(config, tmp_path / 'work')
    os.remove(path)
    runner = train_here(config, tmp_path / 'work', resume='auto', skip_preflight=False,
                        cfg_options=['train_cfg.max_iters=4'])
    assert runner.iter == 4
    assert runner.cfg.model.backbone.init_cfg.checkpoint == path
    with pytest.raises(UserError, match='does not exist'):
        train_here(config, tmp_path / 'other')
