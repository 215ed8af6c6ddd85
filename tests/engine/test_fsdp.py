"""FSDP on one rank; tests/end_to_end/test_ranks.py compares two ranks with data-parallel training."""

import pytest
import torch

from tests.end_to_end.tiny_set import CONFIG, load_tool
from vitdet_plugin.engine.fsdp import wrap_blocks


@pytest.fixture
def sharded_config(tiny_set, tmp_path, monkeypatch):
    """Return a config with layer decay and a shape-dependent decay rule, in the environment of one rank."""
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1',
                            MASTER_PORT='0', TINY_SET=str(tiny_set)).items():
        monkeypatch.setenv(name, value)
    path = tmp_path / 'sharded.py'
    path.write_text(f"_base_ = {str(CONFIG)!r}\nstrategy = dict(type='FSDPStrategy')\n"
                    "optim_wrapper = dict(constructor='LayerWiseDecayConstructor', optimizer=dict(weight_decay=0.1), "
                    "paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='plain'))\ntrain_cfg = dict(max_epochs=1)\n")
    return path


def test_groups_keep_their_rules_and_a_run_is_resumed(sharded_config, tmp_path):
    train = load_tool('train').main
    assert train([str(sharded_config), '--work-dir', str(tmp_path / 'work'), '--no-validate']) == 0
    saved = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=False)
    groups = saved['optimizer']['param_groups']
    decayed = {name for group in groups if group['weight_decay'] for name in group['params']}
    # if the rule were applied to the flat sharded parameters, no weight would decay
    assert 'backbone.blocks.0.mlp.fc1.weight' in decayed and 'backbone.blocks.0.mlp.fc1.bias' not in decayed
    scales = {name: group['lr_scale'] for group in groups for name in group['params']}
    assert scales['backbone.blocks.0.mlp.fc1.weight'] == pytest.approx(0.7 ** 2)
    assert scales['rpn_head.rpn_cls.weight'] == 1
    assert not any('_fsdp' in name for name in saved['state_dict'])
    assert train([str(sharded_config), '--work-dir', str(tmp_path / 'work'), '--no-validate', '--resume', '--amp',
                  '--cfg-options', 'train_cfg.max_epochs=2']) == 0
    assert torch.load(tmp_path / 'work' / 'epoch_2.pth', weights_only=False)['meta']['iter'] == 6


def test_only_blocks_are_fsdp_units():
    from timm.layers import Mlp
    block = type('Block', (torch.nn.Module,), {})()
    assert wrap_blocks(block, recurse=False, nonwrapped_numel=0)
    assert not wrap_blocks(Mlp(4), recurse=False, nonwrapped_numel=10**9)
    assert wrap_blocks(Mlp(4), recurse=True, nonwrapped_numel=0)  # FSDP still visits its children
