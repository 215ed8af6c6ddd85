"""A stopped and resumed run is bitwise equal to an uninterrupted one."""

import multiprocessing
import time
from types import SimpleNamespace

import pytest
import torch

from tests.faults.rig import EPOCHS, STEPS, assert_equal, assert_same_run, steps_of, train_here, write_config

INFINITE = "sampler=dict(type='InfiniteSampler', shuffle=True)"


def run(folder, data, name, stops=(), resume=False, **kwargs):
    hooks = [dict(type='SignalHook', step=step) for step in stops]
    return train_here(write_config(folder / f'{name}.py', data, hooks=hooks, **kwargs), folder / name)


@pytest.mark.parametrize('rest, loader, workers, stop', [
    (EPOCHS.format(2), '', 2, 5),  # in the middle of an epoch
    (EPOCHS.format(2), '', 0, 4),  # at the end of an epoch
    (STEPS.format(6), INFINITE, 2, 3),  # after a regular checkpoint and before the evaluation of that step
    (STEPS.format(6), '', 0, 5),  # a finite sampler in an iteration-based loop: the second pass
])
def test_one_rank(tiny_set, tmp_path, rest, loader, workers, stop, capsys):
    settings = dict(rest=rest, loader=loader, workers=workers)
    run(tmp_path, tiny_set, 'whole', **settings)
    run(tmp_path, tiny_set, 'broken', stops=[stop], **settings)
    assert 'stopped by SIGTERM' in capsys.readouterr().out
    assert max(steps_of(tmp_path / 'broken')) == stop - 1
    train_here(tmp_path / 'broken.py', tmp_path / 'broken', resume='auto')
    assert not multiprocessing.active_children()  # no data worker outlives its run
    assert_same_run(tmp_path / 'whole', tmp_path / 'broken')


def test_gradients_accumulated_at_a_regular_checkpoint(tiny_set, tmp_path):
    """The checkpoint at iteration 3 contains the gradients of one of the two batches of the second optimizer step."""
    rest = STEPS.format(6) + 'optim_wrapper = dict(accumulative_counts=2)\n'
    config = write_config(tmp_path / 'c.py', tiny_set, rest, loader=INFINITE)
    train_here(config, tmp_path / 'whole')
    train_here(config, tmp_path / 'resumed', resume=str(tmp_path / 'whole' / 'iter_3.pth'))
    whole = steps_of(tmp_path / 'whole')
    assert steps_of(tmp_path / 'resumed') == {step: whole[step] for step in (3, 4, 5)}
    saved = [torch.load(tmp_path / name / 'iter_6.pth', weights_only=False) for name in ('whole', 'resumed')]
    for key in ('state_dict', 'optimizer', 'ema_state_dict'):
        assert_equal(saved[0][key], saved[1][key], key)


def test_two_trainings_that_start_in_the_same_second(tiny_set, tmp_path, monkeypatch):
    """They have the same name, but each has its own log and messages."""
    monkeypatch.setattr('mmengine.runner.runner.time', SimpleNamespace(
        time=lambda: 1.7e9, strftime=time.strftime, localtime=time.localtime))
    for name in 'ab':
        train_here(write_config(tmp_path / name / 'same.py', tiny_set, STEPS.format(3)), tmp_path / name / 'run')
    assert_same_run(tmp_path / 'a' / 'run', tmp_path / 'b' / 'run')
    logs = [path.read_text().count('train 3/3') for path in sorted(tmp_path.glob('*/run/*/*.log'))]
    assert logs == [1, 1]
