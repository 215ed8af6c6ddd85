"""Early stopping: which score counts, when it stops, and its state after a resume."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.config import ConfigDict

from tests.end_to_end.tiny_set import CONFIG
from vitdet_plugin.api import train
from vitdet_plugin.engine.early_stopping import PatienceHook
from vitdet_plugin.errors import UserError


def runner_with(info=None, save_best='auto', **checkpoint):
    hub = SimpleNamespace(runtime_info=info if info is not None else {})
    hub.update_info = hub.runtime_info.__setitem__
    cfg = ConfigDict(default_hooks=dict(checkpoint=dict(save_best=save_best, **checkpoint)))
    return SimpleNamespace(message_hub=hub, val_loop=object(), train_loop=SimpleNamespace(stop_training=False),
                           cfg=cfg, logger=logging.getLogger('test'))


def stopped_after(hook, scores, runner=None, name='coco/bbox_mAP'):
    """The number of evaluations until the training stops, or None."""
    runner = runner or runner_with()
    hook.before_train(runner)
    for count, score in enumerate(scores, 1):
        hook.after_val_epoch(runner, {name: score, 'val_loss': -score})
        if runner.train_loop.stop_training:
            return count
    return None


@pytest.mark.parametrize(('scores', 'expected'), [
    ([0.1, 0.2, 0.2, 0.2], 4),  # equal scores are no improvement
    ([0.0, 0.0, 0.0], 3),
    ([0.3, 0.2, 0.31, 0.2, 0.1], 5),
    ([0.1, 0.2, 0.3, 0.4], None),
    ([0.1, float('nan')], 2),
])
def test_patience_of_two(scores, expected):
    assert stopped_after(PatienceHook(2), scores) == expected


def test_the_metric_of_the_best_checkpoint_is_watched():
    hook = PatienceHook(1)
    runner = runner_with(save_best='val_loss')
    hook.before_train(runner)
    for score in (0.3, 0.4, 0.5):  # the loss falls
        hook.after_val_epoch(runner, {'coco/bbox_mAP': 0.0, 'val_loss': 1 - score})
    assert hook.monitor == 'val_loss' and hook.rule == 'less' and not runner.train_loop.stop_training


@pytest.mark.parametrize('save_best', ['auto', 'mine/accuracy_gap'])
def test_the_rule_of_the_best_checkpoint_counts(save_best):
    runner = runner_with(save_best=save_best, rule='less')
    assert stopped_after(PatienceHook(1), [0.3, 0.2, 0.1], runner, 'mine/accuracy_gap') is None
    assert stopped_after(PatienceHook(1, rule='greater'), [0.3, 0.2], runner_with(), 'mine/accuracy_gap') == 2


def test_small_gains():
    assert stopped_after(PatienceHook(2, min_delta=0.01), [0.1, 0.105, 0.109, 0.2]) == 3


def test_the_count_continues_after_a_resume():
    runner = runner_with()
    assert stopped_after(PatienceHook(3), [0.5, 0.4], runner) is None
    again = runner_with(dict(runner.message_hub.runtime_info))
    assert stopped_after(PatienceHook(3), [0.45, 0.3, 0.2], again) == 2


def test_mistakes():
    with pytest.raises(UserError, match="monitor='mAP' is not one of the metrics: coco/bbox_mAP, val_loss"):
        stopped_after(PatienceHook(monitor='mAP'), [0.1])
    with pytest.raises(UserError, match='patience=0 must be a whole number of at least 1'):
        PatienceHook(0)
    with pytest.raises(UserError, match='mine/count does not say whether a higher value is better'):
        stopped_after(PatienceHook(), [0.1], name='mine/count')
    runner = runner_with()
    runner.val_loop = None
    with pytest.raises(UserError, match='no validation set'):
        PatienceHook().before_train(runner)


def test_a_training_ends_early(tiny_set, tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    train(str(CONFIG), work_dir=tmp_path, patience=1, skip_preflight=True, cfg_options={
        'train_cfg.max_epochs': 5, 'optim_wrapper.optimizer.lr': 0.0})
    assert sorted(path.name for path in tmp_path.glob('epoch_*')) == ['epoch_1.pth', 'epoch_2.pth']
