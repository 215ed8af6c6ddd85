"""The metrics that hooks and schedulers read are compared with those of the evaluation before a run."""

import copy

import pytest
from mmengine.config import Config

from vitdet_plugin.engine.check_monitored import check_monitored
from vitdet_plugin.engine.preflight import inspect_config

COCO = dict(type='FastCocoMetric', metric='bbox')


def check(metric, evaluator=COCO, **changes):
    cfg = Config(dict(val_evaluator=copy.deepcopy(evaluator), default_hooks=dict(checkpoint=dict(save_best=metric)),
                      **changes))
    findings = check_monitored(cfg)
    assert all(finding.level == 'error' and '\n' not in finding.text for finding in findings)
    return [finding.text for finding in findings]


@pytest.mark.parametrize('metric', ['coco/bbox_mAP_50', 'auto', 'coco/cat_precision', None, ['coco/bbox_mAP', 'auto']])
def test_names_of_metrics_pass(metric):
    assert check(metric) == []


@pytest.mark.parametrize(('metric', 'says'), [
    ('coco/bbox_mAP_5O', 'coco/bbox_mAP_5O is not a metric of val_evaluator (did you mean coco/bbox_mAP'),
    ('bbox_mAP', 'bbox_mAP is not a metric of val_evaluator'),
    ('loss', 'loss is not a metric of val_evaluator; set it to one of coco/bbox_mAP, '),
    ('loss', ', or to val_loss with --val-loss'),
    ('val_loss', 'val_loss, but the loss on the validation set is computed with --val-loss only; add --val-loss'),
    ('coco/segm_mAP', 'coco/segm_mAP, but segm is not evaluated'), (['coco/bbox_mAP', 'mAP'], 'mAP is not a metric')])
def test_other_names_are_errors(metric, says):
    text, = check(metric)
    assert text.startswith('default_hooks.checkpoint.save_best=') and says in text


def test_the_validation_loss_requires_its_hook():
    hooks = dict(custom_hooks=[dict(type='ValidationLossHook')])
    assert check(['val_loss', 'val_loss_bbox', 'coco/bbox_mAP'], **hooks) == []
    text, = check('loss', **hooks)
    assert 'coco/bbox_mAP_s, val_loss' in text and '--val-loss' not in text


@pytest.mark.parametrize('kind', ['EarlyStoppingHook', 'PatienceHook'])
def test_early_stopping_in_both_lists_of_hooks(kind):
    for metric, count in (('coco/bbox_mAP', 0), ('loss', 1), ('coco/bbox_mAP_typo', 1)):
        hook = dict(type=kind, monitor=metric)
        for key, changes in (('custom_hooks[0].monitor', dict(custom_hooks=[hook])),
                             ('default_hooks.early_stopping.monitor', dict(default_hooks=dict(early_stopping=hook)))):
            findings = check_monitored(Config(dict(val_evaluator=COCO, **changes)))
            assert len(findings) == count
            assert all(finding.text.startswith(f'{key}={metric} is not') for finding in findings)
    patience = dict(type='PatienceHook', monitor='auto')
    assert check('auto', custom_hooks=[patience, dict(type='OwnHook', monitor='memory')]) == []


@pytest.mark.parametrize('loop', ['TeacherStudentValLoop', 'OwnValLoop'])
def test_metrics_that_other_loops_name(loop):
    assert check('teacher/coco/bbox_mAP', val_cfg=dict(type=loop)) == []
    assert len(check('teacher/coco/bbox_mAP', val_cfg=dict(type='ValLoop'))) == 1


def test_schedulers_that_read_a_metric():
    warm_up, plateau = dict(type='LinearLR'), dict(type='ReduceOnPlateauLR', rule='greater', monitor='coco/bbox_mAP')
    assert check('auto', param_scheduler=[warm_up, plateau]) == check('auto', param_scheduler=plateau) == []
    text, = check('auto', param_scheduler=[warm_up, dict(plateau, monitor='bbox_mAP')])
    assert text.startswith('param_scheduler.1.monitor=bbox_mAP is not a metric of val_evaluator (did you mean coco/')
    text, = check('auto', param_scheduler=dict(type='ReduceOnPlateauLR'))
    assert text.startswith('param_scheduler.monitor=loss is not')


def test_other_evaluators():
    from vitdet_plugin.config.registry import import_scope
    import_scope('mmpretrain')
    classes = [dict(type='Accuracy', topk=(1, 5)), dict(type='ClassMeans', items=['f1-score'])]
    assert check(['accuracy/top5', 'single-label/f1-score'], classes) == []
    assert 'accuracy/top1, accuracy/top5, single-label/*' in check('loss', classes)[0]
    assert 'accuracy/top5 is not' in check('accuracy/top5', dict(type='Accuracy'))[0]
    assert check('pascal_voc/mAP', dict(type='VOCMetric')) == check('anything', [COCO, dict(type='OwnMetric')]) == []
    assert check('own/bbox_mAP', dict(COCO, prefix='own')) == check('coco/AR@100', dict(COCO, metric='proposal')) == []
    assert check('lvis/bbox_mAP_r', dict(type='LVISDetMetric', metric='bbox')) == []
    assert 'segm is not evaluated' in check('lvis/segm_mAP', dict(type='LVISDetMetric', metric='bbox'))[0]
    assert check('loss', None) == []


def test_a_training_without_evaluation_reads_no_metric(tiny_config):
    tiny_config.default_hooks.checkpoint.save_best = 'loss'
    text, = [each.text for each in inspect_config(tiny_config, ['train', 'val']) if each.level == 'error']
    assert text.startswith('default_hooks.checkpoint.save_best=loss')
    assert inspect_config(tiny_config, ['train']) == []
