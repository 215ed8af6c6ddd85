"""The loss on the validation set: its value, its place among the metrics, and that the training does not change."""

import json

import pytest
import torch
from mmengine.config import ConfigDict

from tests.end_to_end.tiny_set import CONFIG
from vitdet_plugin.api import train
from vitdet_plugin.engine.train import TrainOptions, apply_train_options
from vitdet_plugin.engine.validation_loss import ValidationLossHook, _deterministic_training, labeled_pipeline
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.curves import plot_curves, read_scalars


@pytest.fixture(scope='module')
def runs(tiny_set, tmp_path_factory):
    folders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TINY_SET', str(tiny_set))
        for val_loss in (True, False):
            folder = tmp_path_factory.mktemp('run')
            train(str(CONFIG), work_dir=folder, val_loss=val_loss, skip_preflight=True,
                  cfg_options=dict(**{'train_cfg.max_epochs': 2, 'default_hooks.checkpoint.save_best': 'auto',
                                      'model.backbone.drop_path_rate': 0.3}))
            folders.append(folder)
    return folders


def test_the_training_is_the_same(runs):
    with_loss, without = (torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict'] for folder in runs)
    assert with_loss.keys() == without.keys()
    assert all(torch.equal(value, without[name]) for name, value in with_loss.items())


def test_it_is_logged_and_drawn(runs, tmp_path):
    log, = runs[0].glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [line for line in lines if 'val_loss' in line]
    assert len(found) == 2 and found[1]['val_loss'] < found[0]['val_loss']
    terms = [value for name, value in found[0].items() if name.startswith('val_') and name != 'val_loss']
    assert len(terms) == 5 and sum(terms) == pytest.approx(found[0]['val_loss'], rel=1e-5)
    assert {'val_loss', 'loss'} <= read_scalars(runs[0]).losses.keys()
    assert 'val_loss' not in read_scalars(runs[0]).metrics
    assert plot_curves(runs[0], tmp_path / 'curves.png').stat().st_size > 10_000
    assert list(runs[0].glob('best_coco_bbox_mAP*'))  # the first metric still selects the best checkpoint


def test_it_can_select_the_best_checkpoint(tiny_set, tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    train(str(CONFIG), work_dir=tmp_path, val_loss=True, skip_preflight=True, cfg_options={
        'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.save_best': 'val_loss'})
    assert list(tmp_path.glob('best_val_loss*'))


def test_dropout_and_batch_statistics_are_off_and_modes_return():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5)).eval()
    model[2].train()
    with _deterministic_training(model):
        assert [module.training for module in model] == [True, False, False]
    assert [module.training for module in model] == [False, False, True]


def test_annotations_are_loaded_before_the_image_is_resized():
    load, resize, pack = dict(type='LoadImageFromFile'), dict(type='Resize'), dict(type='PackDetInputs')
    own, late = dict(type='LoadAnnotations', with_mask=True), dict(type='LoadAnnotations')
    data = ConfigDict(type='Repeat', dataset=dict(pipeline=[load, own, pack]))
    assert labeled_pipeline(ConfigDict(pipeline=[load, resize, late, pack]), data) == [load, own, resize, pack]
    assert labeled_pipeline(ConfigDict(pipeline=[load, resize, pack]), ConfigDict(pipeline=[load])) == [load, resize,
                                                                                                        pack]
    with pytest.raises(UserError, match='has no pipeline'):
        labeled_pipeline(ConfigDict(), data)


def test_options(tiny_config):
    apply_train_options(tiny_config, TrainOptions(val_loss=True, patience=3))
    assert [hook['type'] for hook in tiny_config.custom_hooks] == ['ValidationLossHook', 'PatienceHook']
    with pytest.raises(UserError, match='--val-loss needs an evaluation'):
        apply_train_options(tiny_config, TrainOptions(val_loss=True, validate=False))
    with pytest.raises(UserError, match='--patience 0: must be at least 1'):
        apply_train_options(tiny_config, TrainOptions(patience=0))
    assert ValidationLossHook.priority == 'HIGHEST'
