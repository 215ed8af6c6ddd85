import collections
import copy
import shutil

import pytest
import torch

from vitdet_plugin.engine import preflight as module
from vitdet_plugin.engine.preflight import inspect_config, preflight
from vitdet_plugin.errors import UserError


def texts(findings, level='error'):
    return [finding.text for finding in findings if finding.level == level]


def test_a_valid_config_passes_without_output(tiny_config, tiny_set, tmp_path, capsys):
    for loader in (tiny_config.val_dataloader, tiny_config.test_dataloader):
        loader.dataset.ann_file = str(shutil.copy(tiny_set / 'coco.json', tmp_path / 'val.json'))
    preflight(tiny_config, ['train', 'val', 'test'])
    assert capsys.readouterr().out == ''


def test_averaged_weights_with_fsdp(tiny_config):
    tiny_config.custom_hooks = [dict(type='EMAHook')]
    assert texts(inspect_config(tiny_config, ['train'])) == []
    tiny_config.strategy = dict(type='FSDPStrategy')
    (text,) = texts(inspect_config(tiny_config, ['train']))
    assert 'EMAHook averages whole weights' in text and texts(inspect_config(tiny_config, ['test'])) == []


def test_all_findings_are_reported_at_once(tiny_config):
    tiny_config.train_dataloader.dataset.ann_file = 'nothing.json'
    tiny_config.val_evaluator.ann_file = 'nowhere/coco.json'
    tiny_config.model.roi_head.bbox_head.num_classes = 80
    tiny_config.load_from = 'gone.pth'
    with pytest.raises(UserError) as caught:
        preflight(tiny_config)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith('Found 4 problems to fix') and len(lines) == 5
    for part in ('train_dataloader.dataset.ann_file', 'val_evaluator.ann_file', 'bbox_head.num_classes=80', 'gone.pth'):
        assert part in str(caught.value)


def test_warnings_are_printed_and_do_not_stop(tiny_config, capsys):
    for loader in (tiny_config.train_dataloader, tiny_config.val_dataloader):
        loader.dataset.metainfo.classes = ('apple', 'plum')
    for head in (tiny_config.model.roi_head.bbox_head, tiny_config.model.roi_head.mask_head):
        head.num_classes = 2
    preflight(tiny_config)
    assert capsys.readouterr().out.startswith('warning: train_dataloader.dataset')


def test_an_unregistered_type_in_the_model(tiny_config):
    tiny_config.model.neck.type = 'SimpleFeaturePyramidd'
    assert 'did you mean SimpleFeaturePyramid' in texts(inspect_config(tiny_config, ['train']))[0]


def test_wrapped_data_sets_are_checked(tiny_config):
    inner = tiny_config.train_dataloader.dataset
    inner.ann_file = 'nothing.json'
    tiny_config.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=inner)
    assert texts(inspect_config(tiny_config, ['train']))[0].startswith('train_dataloader.dataset.dataset.ann_file')


def test_configs_of_mmdet_2_and_missing_sections(tiny_config):
    tiny_config.train_dataloader = None
    assert "no 'train_dataloader'" in texts(inspect_config(tiny_config, ['train']))[0]
    tiny_config.pop('train_dataloader')
    tiny_config.data = dict(samples_per_gpu=2)
    assert 'mmdet 2 or EasyCV' in texts(inspect_config(tiny_config, ['train']))[0]


def test_the_checkpoint_of_a_test_must_fit(tiny_config, tmp_path):
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmdet')
    weights = MODELS.build(copy.deepcopy(tiny_config.model)).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'all.pth')
    weights.pop('neck.levels.0.' + next(name for name in weights if name.startswith('neck.levels.0.'))[14:])
    torch.save(dict(state_dict=weights), tmp_path / 'some.pth')
    tiny_config.load_from = str(tmp_path / 'all.pth')
    assert inspect_config(tiny_config, ['test']) == []
    tiny_config.load_from = str(tmp_path / 'some.pth')
    assert 'missing in the file: neck.levels' in texts(inspect_config(tiny_config, ['test']))[0]
    assert 'missing in the file' in texts(inspect_config(tiny_config, ['train']), 'warning')[0]


def test_a_checkpoint_that_runs_code_is_refused(tiny_config, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / 'was-here'), 'w')

    torch.save(dict(state_dict=Evil()), tmp_path / 'evil.pth')
    tiny_config.load_from = str(tmp_path / 'evil.pth')
    assert 'evil.pth' in texts(inspect_config(tiny_config, ['test']))[0]
    assert not (tmp_path / 'was-here').exists()


@pytest.mark.parametrize('free, level', [(2**21, 'error'), (2**24 * 2, 'warning'), (2**40, None)])
def test_free_disk_against_checkpoints(tiny_config, monkeypatch, free, level):
    """12 checkpoints of weights and two moments of 2M parameters, 24 MB each."""
    usage = collections.namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(2**41, 0, free))
    tiny_config.train_cfg.max_epochs = 12
    model = torch.nn.Linear(2000, 1000, bias=False)
    findings = module.check_disk(tiny_config, model)
    assert [finding.level for finding in findings] == ([level] if level else [])
    if level == 'warning':
        assert 'max_keep_ckpts' in findings[0].text
        tiny_config.default_hooks.checkpoint.max_keep_ckpts = 0 + 1
        assert module.check_disk(tiny_config, model)[0].text.count(' 2 checkpoints') == 1


def test_a_folder_with_the_name_of_the_note_of_the_last_checkpoint(tiny_config, tmp_path):
    tiny_config.work_dir = str(tmp_path)
    (tmp_path / 'last_checkpoint').mkdir()
    finding, = module.check_disk(tiny_config, None)
    assert finding.level == 'error' and f'{tmp_path / "last_checkpoint"} is a folder' in finding.text


@pytest.mark.parametrize('key', ['init_cfg', 'load_from'])
def test_official_weights_are_loaded_into_the_model(tiny_config, write_mae, key):
    def use(path):
        if key == 'load_from':
            tiny_config.load_from = path
        else:
            tiny_config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
        return inspect_config(tiny_config, ['train'])

    assert use(write_mae()[0]) == []
    assert 'mae_16.pth' in texts(use(write_mae(width=16)[0]))[0]


def test_masks_of_a_model_without_masks_and_the_metric_of_the_best_checkpoint(tiny_config):
    tiny_config.default_hooks.checkpoint.save_best = 'coco/segm_mAP'
    tiny_config.custom_hooks = [dict(type='EarlyStoppingHook', monitor='coco/segm_mAP')]
    assert texts(inspect_config(tiny_config, ['train', 'val'])) == []
    tiny_config.val_evaluator.metric = 'bbox'
    best, stopping = texts(inspect_config(tiny_config, ['train', 'val']))
    assert best.startswith('default_hooks.checkpoint.save_best=coco/segm_mAP, but segm is not evaluated')
    assert stopping.startswith('custom_hooks[0].monitor=coco/segm_mAP')
    tiny_config.model.type = 'FasterRCNN'
    tiny_config.model.roi_head.mask_head = tiny_config.model.roi_head.mask_roi_extractor = None
    tiny_config.test_evaluator.metric = ['bbox', 'segm']
    text, = texts(inspect_config(tiny_config, ['test']))
    assert text.startswith('test_evaluator: the model predicts no masks, so segm cannot be evaluated; use --eval bbox')


@pytest.mark.parametrize('constructor', ['DefaultOptimWrapperConstructor', 'LayerWiseDecayConstructor'])
def test_custom_keys_that_match_no_parameter(tiny_config, constructor):
    def warnings(**keys):
        tiny_config.optim_wrapper.constructor = constructor
        tiny_config.optim_wrapper.paramwise_cfg = dict(custom_keys={name.replace('_', '.'): dict(lr_mult=0.0)
                                                                    for name in keys})
        return texts(inspect_config(tiny_config, ['train']), 'warning')

    key = 'optim_wrapper.paramwise_cfg.custom_keys: no parameter has'
    assert warnings(backbone=1, norm=1) == []
    text, = warnings(neck=1, bakcbone=1)
    assert text == f"{key} 'bakcbone' in its name (did you mean backbone?); the key has no effect"
    text, = warnings(backbone_blcoks=1)
    assert text.startswith(f"{key} 'backbone.blcoks' in its name (did you mean backbone.blocks")
