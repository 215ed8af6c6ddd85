"""Training with non-finite losses."""

import json

import pytest
import torch

from tests.faults.rig import EPOCHS, steps_of, train_here, write_config
from vitdet_plugin.errors import UserError

POISON = (dict(type='PoisonHook', step=2),)


def test_a_nan_loss_stops_before_the_step_and_writes_files(tiny_set, tmp_path):
    config = write_config(tmp_path / 'c.py', tiny_set, EPOCHS.format(1), POISON)
    with pytest.raises(UserError, match=r'the loss at iteration 2 is not finite: .*nan for .*\.jpg') as caught:
        train_here(config, tmp_path / 'w')
    assert '\n' not in str(caught.value)
    (rank,) = json.loads((tmp_path / 'w' / 'nonfinite_iter_2.json').read_text())['ranks']
    assert rank['losses']['loss'] == 'nan' and len(rank['images']) == 2
    saved = torch.load(tmp_path / 'w' / 'nonfinite_iter_2.pth', weights_only=False)
    assert saved['meta']['iter'] == 1
    assert all(value.isfinite().all() for value in saved['state_dict'].values())
    assert {int(state['step']) for state in saved['optimizer']['state'].values()} == {1}


def test_skipped_steps_are_counted(tiny_set, tmp_path):
    rest = EPOCHS.format(1) + "default_hooks = dict(nonfinite_loss=dict(type='NonFiniteLossHook', action='skip'))\n"
    runner = train_here(write_config(tmp_path / 'c.py', tiny_set, rest, POISON), tmp_path / 'w')
    assert runner.message_hub.get_info('skipped_nonfinite_steps') == 1
    assert sorted(steps_of(tmp_path / 'w')) == [0, 1, 2, 3]
    saved = torch.load(tmp_path / 'w' / 'epoch_1.pth', weights_only=False)
    assert {int(state['step']) for state in saved['optimizer']['state'].values()} == {3}
    assert all(value.isfinite().all() for value in saved['state_dict'].values())


def test_too_many_skipped_steps_stop(tiny_set, tmp_path):
    rest = (EPOCHS.format(1) + "default_hooks = dict(nonfinite_loss=dict(type='NonFiniteLossHook', action='skip', "
            'max_skips=0))\n')
    with pytest.raises(UserError, match='more than 0 steps were skipped'):
        train_here(write_config(tmp_path / 'c.py', tiny_set, rest, POISON), tmp_path / 'w')


def test_an_unknown_action_is_an_error():
    from vitdet_plugin.engine.guards import NonFiniteLossHook
    with pytest.raises(UserError, match="unknown action='ignore'. Use stop or skip"):
        NonFiniteLossHook('ignore')
