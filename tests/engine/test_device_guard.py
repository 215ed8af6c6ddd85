"""Steps with non-finite losses that the optimizer leaves out by itself."""

import copy
import types

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from tests.faults.rig import EPOCHS, train_here, write_config
from vitdet_plugin.compat.amp import AutocastOptimWrapper
from vitdet_plugin.engine.device_guard import DeviceGuard, why_not
from vitdet_plugin.engine.guards import NonFiniteLossHook
from vitdet_plugin.errors import UserError


def wrapped(model, fused=True, kind=OptimWrapper, **options):
    return kind(optimizer=torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1, fused=fused), **options)


def run(losses, stays_refused, every=1):
    """Train with factors of the loss; return the weights after each step, and the flags."""
    torch.manual_seed(0)
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    wrapper = wrapped(model, accumulative_counts=every)
    guard, weights = DeviceGuard(wrapper, len(losses), stays_refused), []
    for factor in losses:
        wrapper.update_params(guard.mark(model(x).square().mean() * factor))
        weights.append(copy.deepcopy(model.state_dict()))
    return weights, guard.read(), wrapper.optimizer


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_a_refused_step_changes_nothing(bad):
    weights, flags, optimizer = run([1, bad, 1], stays_refused=False)
    expected, _, _ = run([1, 1], stays_refused=False)
    assert flags == [False, True, False]
    assert same(weights[0], expected[0]) and same(weights[1], expected[0]) and same(weights[2], expected[1])
    assert {int(state['step']) for state in optimizer.state.values()} == {2}
    assert not hasattr(optimizer, 'found_inf')


def test_weights_stay_until_the_flags_are_read():
    weights, flags, _ = run([1, float('nan'), 1, 1], stays_refused=True)
    assert flags == [False, True, False, False] and same(weights[3], weights[0])


def test_accumulated_gradients_of_a_refused_step_are_dropped():
    weights, flags, _ = run([1, 1, float('nan'), 1, 1, 1], stays_refused=False, every=2)
    expected, _, _ = run([1] * 4, stays_refused=False, every=2)
    assert flags == [False, False, True, False, False, False]  # one flag for the step of the optimizer
    assert same(weights[3], weights[1]) and same(weights[5], expected[3])


def test_gradients_can_be_non_finite_with_a_finite_loss():
    model = nn.Linear(1, 1, bias=False)
    wrapper = wrapped(model)
    guard = DeviceGuard(wrapper, 2, stays_refused=False)
    before = model.weight.detach().clone()
    wrapper.update_params(guard.mark((model.weight - model.weight.detach()).sqrt().sum()))  # 0, with an infinite slope
    assert guard.read() == [True] and torch.equal(model.weight, before) and guard.read() == []


def test_runs_that_cannot_use_it():
    model = nn.Linear(3, 2)
    assert why_not(types.SimpleNamespace(model=model, optim_wrapper=wrapped(model))) is None
    assert 'not fused' in why_not(types.SimpleNamespace(model=model, optim_wrapper=wrapped(model, fused=False)))
    assert 'several' in why_not(types.SimpleNamespace(model=model, optim_wrapper={}))
    scaled = wrapped(model, kind=AutocastOptimWrapper, dtype='bf16')
    assert why_not(types.SimpleNamespace(model=model, optim_wrapper=scaled)) is None
    scaled.loss_scaler = torch.amp.GradScaler('cpu')
    assert 'scaler' in why_not(types.SimpleNamespace(model=model, optim_wrapper=scaled))
    with pytest.raises(UserError, match='interval=0'):
        NonFiniteLossHook(interval=0)


def config(path, tiny_set, action, interval):
    guard = dict(type='NonFiniteLossHook', action=action, interval=interval)
    rest = (EPOCHS.format(1) + f'optim_wrapper = dict(optimizer=dict(fused=True))\ndefault_hooks = dict(\n'
            f'    nonfinite_loss={guard}, runtime_info=dict(type="DeferredInfoHook", defers={interval > 1}))\n')
    return write_config(path, tiny_set, rest, (dict(type='PoisonHook', step=2),))


@pytest.mark.parametrize('action', ['stop', 'skip'])
def test_a_run_ends_as_with_a_check_in_every_step(tiny_set, tmp_path, action):
    found = []
    for interval in (1, 3):
        work_dir = tmp_path / f'w{interval}'
        path = config(tmp_path / f'c{interval}.py', tiny_set, action, interval)
        if action == 'stop':
            with pytest.raises(UserError, match=r'the loss at iteration 2 is not finite: .*nan for .*\.jpg'):
                train_here(path, work_dir, validate=False)
        else:
            train_here(path, work_dir, validate=False)
        name = 'nonfinite_iter_2.pth' if action == 'stop' else 'epoch_1.pth'
        found.append(torch.load(work_dir / name, weights_only=False))
    first, second = found
    assert first['meta']['iter'] == second['meta']['iter'] == (1 if action == 'stop' else 3)
    assert same(first['state_dict'], second['state_dict'])
    assert [state['step'] for state in first['optimizer']['state'].values()] == \
           [state['step'] for state in second['optimizer']['state'].values()]
    if action == 'skip':
        logs = [each['message_hub']['log_scalars'] for each in found]
        assert len(logs[1]['train/grad_norm'].data[0]) == 3  # with the norm of the step that was left out
        for name in ('train/loss', 'train/loss_mask', 'train/lr'):
            assert str(logs[0][name].data) == str(logs[1][name].data), name
