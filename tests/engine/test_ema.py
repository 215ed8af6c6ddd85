"""The weight average of the classification configs: its ramp, saving, and exact resuming."""

import copy
import types

import pytest
import torch
from mmengine.registry import HOOKS, MODELS
from torch import nn

from tests.configs.loading import load
from vitdet_plugin.engine.checkpoint_hook import ResumeStateHook

EMA = dict(load('classification/vit-tiny_50e_plant-seedlings').custom_hooks[0])


def hook_on(model: nn.Module, resume: bool = False):
    hook = HOOKS.build(dict(EMA))
    runner = types.SimpleNamespace(model=model, iter=0, max_iters=10**6, _resume=resume)
    hook.before_run(runner)
    return hook, runner


def train(model: nn.Module, hook, runner, steps: range) -> None:
    for step in steps:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.sin(torch.arange(parameter.numel()) + step).view_as(parameter))
        runner.iter = step
        hook.after_train_iter(runner, 0)


@pytest.mark.parametrize('model', [nn.Linear(3, 2), nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))])
def test_resumes_exactly(model):
    whole, first = copy.deepcopy(model), copy.deepcopy(model)
    hook, runner = hook_on(whole)
    train(whole, hook, runner, range(40))
    hook_before, runner_before = hook_on(first)
    train(first, hook_before, runner_before, range(17))
    checkpoint = dict(state_dict=copy.deepcopy(first.state_dict()))
    hook_before.before_save_checkpoint(runner_before, checkpoint)

    second = copy.deepcopy(model)  # as a new process, with initial weights
    hook_after, runner_after = hook_on(second, resume=True)
    checkpoint = copy.deepcopy(checkpoint)
    hook_after.after_load_checkpoint(runner_after, checkpoint)
    second.load_state_dict(checkpoint['state_dict'])
    train(second, hook_after, runner_after, range(17, 40))
    for left, right in zip(whole.state_dict().values(), second.state_dict().values()):
        assert torch.equal(left, right)
    for left, right in zip(hook.ema_model.state_dict().values(), hook_after.ema_model.state_dict().values()):
        assert torch.equal(left, right)


def test_the_ramp_removes_the_initial_weights():
    """After 500 steps a constant momentum of 0.9999 would keep 95 % of the initial weights."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    averages = {name: MODELS.build(dict(type=name, model=model, **{key: value for key, value in EMA.items() if key in (
        ('momentum', 'gamma') if name == EMA['ema_type'] else ('momentum',))}))
        for name in (EMA['ema_type'], 'ExponentialMovingAverage')}
    for average in averages.values():
        average.update_parameters(model)
    nn.init.zeros_(model.weight)
    for _ in range(500):
        for average in averages.values():
            average.update_parameters(model)
    kept = {name: float(average.module.weight.detach()) for name, average in averages.items()}
    assert kept['ExponentialMovingAverage'] > 0.95 and kept[EMA['ema_type']] < 1e-10


def test_a_run_without_averages_continues_from_the_trained_weights():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    hook, runner = hook_on(model)
    train(model, hook, runner, range(9))
    trained = copy.deepcopy(model.state_dict())
    checkpoint = dict(state_dict=copy.deepcopy(trained), meta=dict(epoch=0, iter=9))
    hook.before_save_checkpoint(runner, checkpoint)
    assert not torch.equal(checkpoint['state_dict']['0.weight'], trained['0.weight'])
    lines = []
    resumed = types.SimpleNamespace(_resume=True, hooks=[], optim_wrapper=None, train_loop=None,
                                    logger=types.SimpleNamespace(warning=lines.append))
    ResumeStateHook().after_load_checkpoint(resumed, checkpoint)
    for name, value in trained.items():
        assert torch.equal(checkpoint['state_dict'][name], value)
    assert len(lines) == 1 and 'no EMAHook' in lines[0]
