"""Learning rates of the recipes at every iteration, compared with the formula of detectron2's scheduler."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from tests.configs.loading import load
from vitdet_plugin.engine.warmup import WarmupLR

EPSILON = 1e-6  # of fvcore's schedulers, part of the training


def detectron2_factor(step, length, warmup, milestones, start=0.001):
    """Factor of ``WarmupParamScheduler(MultiStepParamScheduler)`` at a step; the length of warm-up is a part."""
    where = step / length
    if where + EPSILON <= warmup:
        return start + (1 - start) * where / warmup
    return 0.1 ** sum(milestone <= int((where + EPSILON) * length) for milestone in milestones)


def rates(schedulers, steps, lr=1.0):
    """Rates of the iterations ``0 ... steps - 1``."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    built = [PARAM_SCHEDULERS.build(dict(each), default_args=dict(optimizer=optimizer)) for each in schedulers]
    found = []
    optimizer.step()  # PyTorch expects it before the first step of a scheduler
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in built:
            scheduler.step()
    return found


# detectron2's configs: total, warm-up as a part of it, milestones. The 75 epochs keep the part of the 100.
COCO = (184_375, 250 / 184_375, (163_889, 177_546))
COCO_75 = (138_281, 250 / 184_375, (122_916, 133_159))
LVIS = (156_250, 250 / 156_250, (138_889, 150_463))


@pytest.mark.parametrize(('name', 'schedule'), [
    ('vitdet_100e', COCO), ('vitdet/mask-rcnn_vitdet-l_lsj-100e_coco', COCO),
    ('vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco', COCO), ('vitdet/mask-rcnn_vitdet-h_lsj-75e_coco', COCO_75),
    ('vitdet/cascade-mask-rcnn_vitdet-h_lsj-75e_coco', COCO_75), ('vitdet/mask-rcnn_vitdet-b_lsj-100e_lvis', LVIS),
    ('vitdet/cascade-mask-rcnn_vitdet-h_lsj-100e_lvis', LVIS)])
def test_the_first_iterations_and_the_steps(name, schedule):
    schedulers = load(name).param_scheduler
    expected = [detectron2_factor(step, *schedule) for step in range(260)]
    assert rates(schedulers, 260) == pytest.approx(expected, rel=1e-9)
    length, _, milestones = schedule
    around = sorted(step for milestone in milestones for step in (milestone - 1, milestone, milestone + 1))
    assert [_closed_form(schedulers[1], step) for step in around] == pytest.approx(
        [detectron2_factor(step, *schedule) for step in around])
    assert schedulers[1].end == length


def _closed_form(cfg, step):
    """Factor of a ``MultiStepLR``, whose real steps take too long."""
    assert cfg.type == 'MultiStepLR'
    return cfg.gamma ** sum(milestone <= step for milestone in cfg.milestones)


def test_accumulated_gradients_lengthen_the_warm_up():
    found = rates(load('vitdet/mask-rcnn_vitdet-b_lsj-100e-1xb8_coco').param_scheduler, 2010)
    assert found[1999] < 1 and found[2000] == pytest.approx(1)


def test_easycv_warms_up_from_its_own_factor():
    found = rates(load('vitdet/mask-rcnn_vitdet-b_easycv-100e_coco').param_scheduler, 260)
    assert found[:250] == pytest.approx([0.067 + 0.933 * step / 250 for step in range(250)])
    assert found[250:] == pytest.approx([1] * 10)


@pytest.mark.parametrize(('name', 'length'), [
    ('internimage/mask-rcnn_internimage-t_fpn_1x_coco', 500), ('internimage/mask-rcnn_internimage-t_fpn_3x_coco', 500),
    ('internimage/cascade-mask-rcnn_internimage-l_fpn_3x_coco', 500),
    ('convnext/mask-rcnn_convnext-t_fpn_3x_coco', 1000)])
def test_recipes_of_mmcv_1_warm_up_for_as_many_iterations(name, length):
    """``lr_config=dict(warmup='linear', warmup_iters=length, warmup_ratio=0.001)``."""
    cfg = load(name)
    factors = [rate / cfg.optim_wrapper.optimizer.lr for rate in
               rates(cfg.param_scheduler, length + 2, lr=cfg.optim_wrapper.optimizer.lr)]
    assert factors[:length] == pytest.approx([1 - (1 - step / length) * 0.999 for step in range(length)])
    assert factors[length:] == pytest.approx([1, 1])


@pytest.mark.parametrize(('begin', 'end'), [(0, 4), (3, 7), (0, 3.5), (2, 2.5)])
def test_factors(begin, end):
    found = rates([dict(type='WarmupLR', start_factor=0.1, by_epoch=False, begin=begin, end=end)], 12, lr=2.0)
    expected = [2.0 if step < begin else 2 * min(1, 0.1 + 0.9 * (step - begin) / (end - begin)) for step in range(12)]
    assert found == pytest.approx(expected)


def test_epochs_are_converted_to_iterations():
    found = rates([dict(type='WarmupLR', start_factor=0.1, by_epoch=True, begin=0, end=2, epoch_length=3,
                        convert_to_iter_based=True)], 8)
    assert found == pytest.approx([min(1, 0.1 + 0.9 * step / 6) for step in range(8)])


def test_the_state_continues_a_warm_up():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupLR(optimizer, start_factor=0.1, end=10, by_epoch=False)
    optimizer.step()
    for _ in range(4):
        scheduler.step()
    resumed = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed.load_state_dict(optimizer.state_dict())
    other = WarmupLR(resumed, start_factor=0.1, end=10, by_epoch=False)
    resumed.step()
    resumed.load_state_dict(optimizer.state_dict())
    other.load_state_dict(scheduler.state_dict())
    for _ in range(8):
        scheduler.step()
        other.step()
        assert resumed.param_groups[0]['lr'] == optimizer.param_groups[0]['lr']
    assert optimizer.param_groups[0]['lr'] == pytest.approx(1)
