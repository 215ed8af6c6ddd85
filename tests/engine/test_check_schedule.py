import pytest
from mmengine.config import Config

from tests.faults.rig import STEPS, train_here, write_config
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.engine.check_schedule import check_schedule, drop_idle_schedulers
from vitdet_plugin.engine.loops import resumable_loop

ITER = dict(type='IterBasedTrainLoop', max_iters=100)
EPOCH = dict(type='EpochBasedTrainLoop', max_epochs=10)


def findings(train_cfg, schedulers=(), optimizer=None, hooks=None, **wrapper):
    cfg = Config(dict(train_cfg=train_cfg, val_cfg=dict(), param_scheduler=list(schedulers),
                      optim_wrapper=dict(optimizer=optimizer or dict(type='SGD', lr=0.1), **wrapper),
                      default_hooks=hooks or {}))
    return [f'{finding.level}: {finding.text}' for finding in check_schedule(cfg)]


@pytest.mark.parametrize('train_cfg, says', [
    (dict(ITER, max_iters=0), 'error: train_cfg.max_iters=0: give a whole number'),
    (dict(ITER, max_iters=10 ** 23), 'error: train_cfg.max_iters=100000000000000000000000: give a whole number up to'),
    (dict(ITER, max_iters='ten'), "error: train_cfg.max_iters='ten'"),
    (dict(EPOCH, max_epochs=-1), 'error: train_cfg.max_epochs=-1'),
    (dict(EPOCH, max_epochs=2.5), 'error: train_cfg.max_epochs=2.5'),
    (dict(EPOCH, max_iters=5), 'error: train_cfg.max_iters: the loop counts epochs; set max_epochs'),
    (dict(max_epochs=5, max_iters=5), 'error: train_cfg.max_iters: the loop counts epochs'),
    (dict(type='IterBasedTrainLoop'), "error: train_cfg has no 'max_iters'"),
    (dict(by_epoch=True), "error: train_cfg has no 'max_epochs'"),
    (dict(ITER, by_epoch=True), 'error: train_cfg.type=IterBasedTrainLoop and train_cfg.by_epoch=True contradict'),
    (dict(ITER, val_interval=0), 'error: train_cfg.val_interval=0'),
    (dict(ITER, val_interval='1k'), "error: train_cfg.val_interval='1k'"),
    (dict(ITER, val_begin=101), 'warning: train_cfg.val_begin=101, but training ends after 100 iterations'),
])
def test_length_of_training(train_cfg, says):
    (text,) = findings(train_cfg)
    assert text.startswith(says)


@pytest.mark.parametrize('train_cfg', [ITER, EPOCH, dict(max_iters=5), dict(max_epochs=5), dict(type='OtherLoop', x=1),
                                       dict(by_epoch=False, max_iters=5), dict(EPOCH, by_epoch=True),
                                       dict(ITER, max_iters=1e2), dict(ITER, val_interval=1000)])
def test_correct_lengths(train_cfg):
    assert findings(train_cfg) == []


def test_the_type_of_the_loop_follows_from_its_length():
    assert resumable_loop(dict(max_iters=5))['type'].__name__ == 'ResumableIterLoop'
    assert resumable_loop(dict(max_epochs=5))['type'].__name__ == 'ResumableEpochLoop'
    other = dict(type='LoopOfAnotherPackage', max_epochs=5)
    assert resumable_loop(other) == other


@pytest.mark.parametrize('optimizer, wrapper, says', [
    (dict(type='SGD', lr=-0.1), {}, 'error: optim_wrapper.optimizer.lr=-0.1'),
    (dict(type='Adamm', lr=1), {}, 'error: optim_wrapper.optimizer.type=Adamm: there is no such optimizer (did you'),
    (dict(type='SGD', lr='fast'), {}, "error: optim_wrapper.optimizer.lr='fast'"),
    (dict(type='SGD', lr=None), {}, 'error: optim_wrapper.optimizer.lr=None'),
    (dict(type='SGD', lr=float('nan')), {}, 'error: optim_wrapper.optimizer.lr=nan'),
    (dict(type='SGD', lr=0.), {}, 'warning: optim_wrapper.optimizer.lr=0: the weights do not change'),
    (dict(type='SGD', lr=1, weight_decay=-1), {}, 'error: optim_wrapper.optimizer.weight_decay=-1'),
    (None, dict(clip_grad=dict(max_norm=-1)), 'error: optim_wrapper.clip_grad.max_norm=-1: give a number above 0'),
    (None, dict(clip_grad=dict(max_norm=0)), 'error: optim_wrapper.clip_grad.max_norm=0: give a number above 0'),
    (None, dict(accumulative_counts=0), 'error: optim_wrapper.accumulative_counts=0'),
    (None, dict(accumulative_counts=200), 'warning: optim_wrapper.accumulative_counts=200, but training has 100'),
])
def test_optimizer(optimizer, wrapper, says):
    (text,) = findings(ITER, optimizer=optimizer, **wrapper)
    assert text.startswith(says)


@pytest.mark.parametrize('train_cfg, scheduler, says', [
    (ITER, dict(type='MultiStepLR', by_epoch=False, milestones=[50, 120]), 'milestones [120] are after the end'),
    (EPOCH, dict(type='MultiStepLR', milestones=[8, 11]), 'milestones [11] are after the end of training, 10 epochs'),
    (ITER, dict(type='MultiStepLR', milestones=[8, 11]), '(MultiStepLR) counts epochs, the default, and training'),
    (ITER, dict(type='LinearLR', by_epoch=False, begin=0, end=500), 'does not reach its full value'),
    (EPOCH, dict(type='LinearLR', by_epoch=False, begin=500, end=500), 'end=500 is not greater than begin=500'),
    (EPOCH, dict(type='LinearLR', by_epoch=False, begin=0, end=500), None),
    (ITER, dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=100), None),
    (EPOCH, dict(type='MultiStepLR', milestones=[8, 9]), None),
    (ITER, dict(type='LinearLR', convert_to_iter_based=True, end=1), None),
])
def test_schedulers(train_cfg, scheduler, says):
    found = findings(train_cfg, [scheduler])
    assert len(found) == bool(says) and all(says in text for text in found)


@pytest.mark.parametrize('hooks, says', [
    (dict(checkpoint=dict(interval=10)), 'warning: default_hooks.checkpoint counts epochs, the default'),
    (dict(checkpoint=dict(by_epoch=False, interval=500, save_last=False)), 'save no checkpoint in a training of 100'),
    (dict(logger=dict(interval=float('nan'))), 'error: default_hooks.logger.interval=nan'),
    (dict(checkpoint=dict(by_epoch=False, interval='all')), "error: default_hooks.checkpoint.interval='all'"),
    (dict(logger=dict(interval=0.5)), 'error: default_hooks.logger.interval=0.5'),
    (dict(checkpoint=dict(by_epoch=False, interval=500), logger=dict(interval=500)), None)])
def test_hooks(hooks, says):
    found = findings(ITER, hooks=hooks)
    assert len(found) == bool(says) and all(says in text for text in found)


def test_schedulers_after_the_end_of_training_are_left_out(capsys):
    schedulers = [dict(type='LinearLR', by_epoch=False, begin=0, end=50),
                  dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=20, T_max=-30)]
    cfg = Config(dict(train_cfg=dict(by_epoch=False, max_iters=20), param_scheduler=schedulers))
    drop_idle_schedulers(cfg)
    assert [each.type for each in cfg.param_scheduler] == ['LinearLR']
    (line,) = capsys.readouterr().err.splitlines()
    assert 'param_scheduler.1 (CosineAnnealingLR, begin=50): ignored, because training ends after 20' in line


def test_the_last_iteration_is_saved_evaluated_and_printed(tiny_set, tmp_path):
    rest = STEPS.format(2).replace('val_interval=3', 'val_interval=50') + 'default_hooks = dict(checkpoint=dict('\
        'by_epoch=False, interval=50), logger=dict(interval=50))\n'
    runner = train_here(write_config(tmp_path / 'c.py', tiny_set, rest), tmp_path / 'run')
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    assert 'val/coco/bbox_mAP' in runner.message_hub.log_scalars
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert 'train 2/2' in log and 'val @ iteration 2' in log


def test_optimizers_of_other_scopes_are_accepted():
    import_scope('mmpretrain')
    assert findings(ITER, optimizer=dict(type='Lamb', lr=0.1)) == []
    assert findings(ITER, optimizer=dict(type='mmpretrain.Adan', lr=0.1)) == []
