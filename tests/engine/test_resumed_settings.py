"""Changed settings of optimizer and schedule after --resume: as if the training had had them from its start."""

import json

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR, MultiStepLR
from torch import nn

from tests.faults.rig import EPOCHS, STEPS, train_here, write_config
from vitdet_plugin.engine.resumed_settings import ConfiguredSettings


def build(lr=0.1, end=20, warmup=4, decay=0.01, milestones=(2, 3)):
    """An optimizer of two groups with warm-up, cosine and steps of epochs, each of 5 iterations."""
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [dict(params=layers[0].parameters()), dict(params=layers[1].parameters(), lr=lr / 10, weight_decay=0.0)]
    wrapper = OptimWrapper(torch.optim.AdamW(groups, lr=lr, weight_decay=decay))
    return wrapper, [LinearLR(wrapper, start_factor=0.1, by_epoch=False, end=warmup),
                     CosineAnnealingLR(wrapper, eta_min_ratio=0.01, by_epoch=False, begin=warmup, end=end),
                     MultiStepLR(wrapper, milestones=list(milestones))]


def advance(built, steps, start=0):
    wrapper, schedulers = built
    rates = []
    for step in range(start, steps):
        rates.append([group['lr'] for group in wrapper.optimizer.param_groups])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or (step + 1) % 5 == 0:
                scheduler.step()
    return rates


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('changed', [
    {}, dict(end=40), dict(lr=0.5), dict(warmup=8), dict(milestones=(1,)), dict(decay=0.5), dict(lr=0.2, end=30)])
def test_the_rest_is_that_of_a_training_with_these_settings_from_the_start(changed):
    first, whole, resumed = build(), build(**changed), build(**changed)
    advance(first, 13)
    expected = advance(whole, 20)
    configured = ConfiguredSettings(*resumed)
    resumed[0].load_state_dict(first[0].state_dict())
    for scheduler, saved in zip(resumed[1], first[1]):
        scheduler.load_state_dict(saved.state_dict())
    changes = configured.restore(*resumed, epoch_length=5)
    names = dict(end='end', lr='lr', warmup='begin', milestones='milestones', decay='weight_decay')
    assert bool(changes) == bool(changed) and all(any(names[key] in each for each in changes) for key in changed)
    assert resumed[0].optimizer.param_groups[0]['weight_decay'] == changed.get('decay', 0.01)
    torch.testing.assert_close(torch.tensor(advance(resumed, 20, 13)), torch.tensor(expected[13:]))
    if not changed:
        assert advance(first, 20, 13) == expected[13:]


def rates_of(folder):
    lines = [json.loads(line) for path in sorted(folder.glob('*/vis_data/2*.json')) for line in open(path)]
    return {each['iter']: each['lr'] for each in lines if 'lr' in each and 'loss' in each}


SCHEDULE = ("param_scheduler = [dict(type='CosineAnnealingLR', by_epoch={by_epoch}, end={end}, T_max={end}{convert})]\n"
            "default_hooks = dict(logger=dict(interval=1))\n")


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_longer_training(tiny_set, tmp_path, by_epoch, capfd):
    def config(name, length):
        schedule = SCHEDULE.format(by_epoch=by_epoch, end=length,
                                   convert=', convert_to_iter_based=True' if by_epoch else '')
        rest = (EPOCHS if by_epoch else STEPS).format(length)
        return write_config(tmp_path / f'{name}.py', tiny_set, rest + schedule)
    short, long = (2, 4) if by_epoch else (3, 6)
    train_here(config('whole', long), tmp_path / 'whole')
    train_here(config('part', short), tmp_path / 'part')
    capfd.readouterr()
    train_here(config('part', long), tmp_path / 'part', resume='auto')
    assert 'T_max of CosineAnnealingLR' in ''.join(capfd.readouterr())
    whole, part = rates_of(tmp_path / 'whole'), rates_of(tmp_path / 'part')
    last = max(whole)
    assert max(part) == last and part[last] == pytest.approx(whole[last], rel=1e-6)
    assert part[last - 1] == pytest.approx(whole[last - 1], rel=1e-6) and part[last] < part[last - 1]
