"""Names of published weights in a run: --weights, load_from and init_cfg, downloaded before the start."""

import pytest
import torch
from mmengine.registry import init_default_scope

from tests.checkpoints.models import randomize
from tests.utils.file_server import FileServer, use_own_caches
from vitdet_plugin.checkpoints.published import TABLE
from vitdet_plugin.engine import preflight as preflight_module
from vitdet_plugin.engine.inference import find_checkpoint
from vitdet_plugin.engine.load_model import build_model
from vitdet_plugin.engine.preflight import inspect_config, preflight
from vitdet_plugin.engine.runners import build_runner
from vitdet_plugin.engine.train import TrainOptions, apply_train_options
from vitdet_plugin.errors import UserError

NAME = 'vil2_tiny'


@pytest.fixture
def source(tiny_config):
    init_default_scope('mmdet')
    return randomize(build_model(tiny_config), 1)


@pytest.fixture
def server(source, tmp_path, monkeypatch):
    use_own_caches(monkeypatch, tmp_path)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'whole.pth')
    torch.save(source.backbone.state_dict(), tmp_path / 'backbone.pth')
    with FileServer({TABLE[NAME].file_name: (tmp_path / 'whole.pth').read_bytes(),
                     TABLE['vil2_small'].file_name: (tmp_path / 'backbone.pth').read_bytes()}) as running:
        monkeypatch.setenv('VITDET_MIRROR', running.url)
        yield running


def test_weights_replace_init_cfg_and_load_from(tiny_config, tmp_path, server, source, capsys):
    tiny_config.load_from, tiny_config.work_dir = 'other.pth', str(tmp_path / 'work')
    tiny_config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='gone.pth', prefix='x.')
    apply_train_options(tiny_config, TrainOptions(weights='vil2_small'))
    assert "replaces the config's load_from=other.pth" in capsys.readouterr().out
    assert tiny_config.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='vil2_small')
    preflight(tiny_config, ['train'])
    assert len(server.requests) == 1
    runner = build_runner(tiny_config)
    runner._init_model_weights()
    assert torch.equal(runner.model.backbone.pos_embed, source.backbone.pos_embed)
    assert len(server.requests) == 1


def test_weights_and_load_from_exclude_each_other(tiny_config):
    with pytest.raises(UserError, match='--weights and --load-from'):
        apply_train_options(tiny_config, TrainOptions(weights=NAME, load_from='x.pth'))
    tiny_config.model = dict(type='A')
    with pytest.raises(UserError, match='no model.backbone for --weights'):
        apply_train_options(tiny_config, TrainOptions(weights=NAME))


def test_load_from_a_name(tiny_config, tmp_path, server, source):
    tiny_config.load_from, tiny_config.work_dir = NAME, str(tmp_path / 'work')
    assert [finding for finding in inspect_config(tiny_config, ['train']) if finding.level == 'error'] == []
    runner = build_runner(tiny_config)
    runner.load_or_resume()
    assert torch.equal(runner.model.backbone.pos_embed, source.backbone.pos_embed)
    assert find_checkpoint(NAME) == tmp_path / 'cache' / TABLE[NAME].file_name
    assert len(server.requests) == 1


def test_without_network_preflight_says_what_to_do(tiny_config, tmp_path, server):
    server.__exit__()
    tiny_config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=NAME)
    (text,) = [finding.text for finding in inspect_config(tiny_config, ['train']) if finding.level == 'error']
    assert text.startswith('model.backbone.init_cfg.checkpoint: vil2_tiny: http://') and 'cannot be reached' in text
    assert text.endswith(f'put it at {tmp_path / "cache" / TABLE[NAME].file_name}')
    tiny_config.model.backbone.init_cfg.checkpoint = 'vil2_tinny'
    (text,) = [finding.text for finding in inspect_config(tiny_config, ['train']) if finding.level == 'error']
    assert 'did you mean vil2_tiny' in text


def test_other_ranks_wait_for_the_file(tiny_config, server, tmp_path, monkeypatch):
    tiny_config.load_from = NAME
    monkeypatch.setattr(preflight_module, 'get_rank', lambda: 1)
    monkeypatch.setattr(preflight_module, 'broadcast_object_list', lambda shared: shared.__setitem__(0, []))
    preflight(tiny_config, ['train'])
    assert (tmp_path / 'cache' / TABLE[NAME].file_name).is_file()
    server.files.clear()
    tiny_config.load_from = 'vil_base'
    preflight(tiny_config, ['train'])  # rank 0 reports the error
