"""Changed settings of optimizer and schedule after --resume: as if the training had had them from its start."""

import copy
import json
import re

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR, MultiStepLR
from torch import nn

from tests.end_to_end.tiny_classes import CONFIG as CLASSIFIER
from tests.end_to_end.tiny_classes import write_tiny_classes
from tests.faults.rig import EPOCHS, STEPS, train_here, write_config
from vitdet_plugin.engine.process_state import restored_process_state
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
        rates.append([rate for values in wrapper.get_lr().values() for rate in values])
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
    resumed[0].load_state_dict(copy.deepcopy(first[0].state_dict()))
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
    """Return the logged and printed learning rates of each step."""
    lines = [json.loads(line) for path in sorted(folder.glob('*/vis_data/2*.json')) for line in open(path)]
    texts = ''.join(path.read_text() for path in sorted(folder.glob('*/*.log')))
    printed = {int(step): rate for step, rate in re.findall(r'train +(\d+)/\d+ .* lr (\S+)', texts)}
    return {each['iter']: (each['lr'], each['base_lr'], printed[each['iter']])
            for each in lines if 'lr' in each and 'loss' in each}


SCHEDULE = ("param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),\n"
            "    dict(type='CosineAnnealingLR', by_epoch={by_epoch}, end={end}, T_max={end}{convert})]\n"
            "default_hooks = dict(logger=dict(interval=1))\n")
GROUPS = 'optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0))\n'


def assert_continues_as_whole(whole, part, before):
    """Compare the rates of the steps that came after the resume."""
    rest = [step for step in whole if step not in before]
    assert list({**before, **part}) == list(whole) and rest
    for step in rest:
        assert part[step][:2] == pytest.approx(whole[step][:2], rel=1e-6) and part[step][2] == whole[step][2]


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_longer_training(tiny_set, tmp_path, by_epoch, capfd):
    def config(name, length):
        schedule = SCHEDULE.format(by_epoch=by_epoch, end=length,
                                   convert=', convert_to_iter_based=True' if by_epoch else '')
        return write_config(tmp_path / f'{name}.py', tiny_set,
                            (EPOCHS if by_epoch else STEPS).format(length) + schedule + GROUPS)
    short, long = (2, 4) if by_epoch else (3, 6)
    train_here(config('whole', long), tmp_path / 'whole')
    with restored_process_state():
        train_here(config('part', short), tmp_path / 'part')
    before = rates_of(tmp_path / 'part')
    capfd.readouterr()
    with restored_process_state():
        train_here(config('part', long), tmp_path / 'part', resume='auto')
    assert 'T_max of CosineAnnealingLR' in ''.join(capfd.readouterr())
    assert_continues_as_whole(rates_of(tmp_path / 'whole'), rates_of(tmp_path / 'part'), before)


def test_a_longer_training_of_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_CLASSES', str(write_tiny_classes(tmp_path / 'classes', train=3, val=1)))

    def train(name, epochs, **options):
        logging = {'default_hooks.logger.interval': 1, 'default_hooks.logger.ignore_last': False}
        with restored_process_state():  # the runs may start in the same second
            train_here(CLASSIFIER, tmp_path / name, cfg_options={'epochs': epochs, **logging}, **options)
        return rates_of(tmp_path / name)

    whole, before = train('whole', 3), train('part', 2)
    assert_continues_as_whole(whole, train('part', 3, resume='auto'), before)
