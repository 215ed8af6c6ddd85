"""``train`` and ``test`` of the API: several runs in one process, results, errors, unchanged global state."""

import logging
import os
import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

import vitdet_plugin.api
from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.api import Inferencer, UserError, test, train
from vitdet_plugin.config.loading import load_config

TWO_STEPS = {'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 2}


@pytest.fixture(scope='module', autouse=True)
def tiny_set(tmp_path_factory):
    folder = write_tiny_set(tmp_path_factory.mktemp('api runs') / 'set', images=4)
    before = os.environ.get('TINY_SET')
    os.environ['TINY_SET'] = str(folder)
    yield folder
    os.environ.pop('TINY_SET') if before is None else os.environ.update(TINY_SET=before)


def process_state():
    """State that a run could change: flags of torch, signal handlers, named objects of mmengine."""
    return (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
            signal.getsignal(signal.SIGTERM), set(MMLogger._instance_dict), set(MessageHub._instance_dict),
            set(DefaultScope._instance_dict))


def test_train_test_predict_twice_in_one_process(tiny_set, tmp_path):
    """With the same seed both rounds are equal, and the process is as before."""
    rounds = []
    for name in ('first', 'second'):
        before = process_state()
        result = train(CONFIG, work_dir=tmp_path / name, seed=1, deterministic=True, cfg_options=TWO_STEPS)
        metrics = test(CONFIG, result.last_checkpoint, work_dir=tmp_path / f'{name}_test')
        half = test(CONFIG, result.last_checkpoint, work_dir=tmp_path / f'{name}_half', dtype='auto')
        assert half['coco/bbox_mAP'] == pytest.approx(metrics['coco/bbox_mAP'], abs=0.05)
        assert process_state() == before
        assert result.work_dir == tmp_path / name
        assert result.last_checkpoint == tmp_path / name / 'epoch_1.pth' and result.last_checkpoint.is_file()
        assert metrics['coco/bbox_mAP'] == pytest.approx(result.metrics['coco/bbox_mAP'], abs=2e-3)
        found = Inferencer.load(CONFIG, result.last_checkpoint, 'cpu').predict(tiny_set / 'images', score_thr=0)
        rounds.append((metrics, [each.as_dict() for each in found]))
        alone = Inferencer.load(tmp_path / name, device='cpu')  # the work directory holds config and checkpoint
        assert alone.predict(tiny_set / 'images', score_thr=0)[0].as_dict() == rounds[-1][1][0]
        (log,) = (tmp_path / name).glob('*/*.log')
        assert 'train 2/2' in log.read_text()
    assert rounds[0] == rounds[1]


def test_a_loaded_config_is_not_changed_and_options_may_be_words(tmp_path):
    cfg = Config.fromfile(CONFIG)
    before = cfg.pretty_text
    result = train(cfg, work_dir=tmp_path, validate=False, cfg_options=['train_cfg.max_epochs=1'])
    assert cfg.pretty_text == before
    assert result.metrics == {} and result.best_checkpoint is None


def test_resume_continues_and_eval_gives_metrics_of_the_test_split(tmp_path):
    train(CONFIG, work_dir=tmp_path, validate=False, cfg_options=TWO_STEPS)
    result = train(CONFIG, work_dir=tmp_path, resume=True, validate=False, eval='bbox',
                   cfg_options={**TWO_STEPS, 'train_cfg.max_epochs': 2})
    assert result.last_checkpoint.name == 'epoch_2.pth'
    assert 'coco/bbox_mAP' in result.metrics and 'coco/segm_mAP' not in result.metrics


def test_the_work_directory_is_named_after_the_config(monkeypatch, tmp_path):
    """The default is the name of the file, also for shipped configs given by name and by package."""
    from vitdet_plugin.engine.session import SessionOptions, load_session_config
    monkeypatch.chdir(tmp_path)
    for name in ('vitdet_demo', 'vitdet_plugin::vitdet_demo.py'):
        assert load_session_config(name, SessionOptions()).work_dir == 'work_dirs/vitdet_demo'


def test_shipped_configs_as_base(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = 'vitdet_plugin::vitdet_100e.py'\nmodel = dict(roi_head=dict(bbox_head=dict("
                      'num_classes=3)))\n')
    for cfg in (Config.fromfile(config), load_config(config)):
        assert cfg.model.backbone.type == 'ViTDet' and cfg.model.roi_head.bbox_head.num_classes == 3
    config.write_text("_base_ = 'vitdet_plugin::vitdet_100.py'\n")
    with pytest.raises(UserError, match='did you mean vitdet_100e'):
        load_config(config)


@pytest.mark.parametrize('call, expected', [
    (lambda folder: train('vitdet_demoo'), 'did you mean vitdet_demo'),
    (lambda folder: train(CONFIG, work_dir=folder, amp='fp8'), '--amp fp8: choose from auto, fp16, bf16'),
    (lambda folder: train(CONFIG, work_dir=folder, cfg_options={'modle.x': 1}), 'did you mean model'),
    (lambda folder: test(CONFIG, folder / 'none.pth', work_dir=folder), 'none.pth'),
    (lambda folder: test(CONFIG, folder, work_dir=folder), 'holds no checkpoint'),
])
def test_errors_are_one_line(call, expected, tmp_path):
    loggers = set(MMLogger._instance_dict)
    with pytest.raises(UserError, match=expected):
        call(tmp_path)
    assert set(MMLogger._instance_dict) == loggers


def test_the_public_names_are_documented():
    for name in vitdet_plugin.api.__all__:
        assert len(getattr(vitdet_plugin.api, name).__doc__) > 30
    assert not logging.getLogger('vitdet_plugin').handlers
