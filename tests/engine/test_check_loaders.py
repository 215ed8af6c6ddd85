import pytest
from mmengine.config import ConfigDict

from tests.end_to_end.tiny_set import CONFIG
from tests.faults.rig import STEPS, train_here, write_config
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.check_loaders import check_loaders, repair_loaders
from vitdet_plugin.engine.preflight import inspect_config
from vitdet_plugin.errors import UserError


def texts(cfg, level='error', splits=('train', 'val')):
    return [finding.text for finding in check_loaders(cfg, splits) if finding.level == level]


@pytest.mark.parametrize('key, value', [('persistent_workers', True), ('prefetch_factor', 2), ('timeout', 5),
                                        ('multiprocessing_context', 'spawn')])
def test_options_of_data_workers_without_workers_are_removed_with_a_line(tiny_config, capsys, key, value):
    tiny_config.train_dataloader[key] = tiny_config.val_dataloader[key] = value
    tiny_config.val_dataloader.num_workers = 1
    repair_loaders(tiny_config)
    assert key not in tiny_config.train_dataloader and tiny_config.val_dataloader[key] == value
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'warning: train_dataloader.{key}={value}: ignored, because it requires num_workers')


@pytest.mark.parametrize('key, value', [
    ('batch_size', 0), ('batch_size', -2), ('batch_size', 1.5), ('batch_size', 'two'), ('batch_size', True),
    ('batch_size', None), ('num_workers', -1), ('num_workers', 'auto')])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_numbers(tiny_config, split, key, value):
    tiny_config[f'{split}_dataloader'][key] = value
    assert texts(tiny_config) == [f'{split}_dataloader.{key}={value!r}: give a whole number of at least '
                                  f'{int(key == "batch_size")}']
    found = inspect_config(tiny_config, ['train', 'val'])
    assert texts(tiny_config) == [each.text for each in found if each.level == 'error']


def test_absurd_numbers_of_data_workers_are_refused(tiny_config):
    tiny_config.train_dataloader.num_workers = 100_000
    text, = texts(tiny_config)
    assert text.startswith('train_dataloader.num_workers=100000: each is a process') and 'at most 1024' in text


def test_a_pipeline_without_transforms(tiny_config):
    tiny_config.val_dataloader.dataset.pipeline = []
    assert texts(tiny_config) == ['val_dataloader.dataset.pipeline is empty: it has to load and pack the images; give '
                                  'its transforms']
    tiny_config.val_dataloader.dataset = ConfigDict(
        type='MultiImageMixDataset', dataset=tiny_config.val_dataloader.dataset, pipeline=[dict(type='PackDetInputs')])
    assert texts(tiny_config) == []


@pytest.mark.parametrize('kind', ['Mosaic', 'MixUp'])
def test_mixed_images_have_no_masks(tiny_config, kind):
    inner = tiny_config.train_dataloader.dataset
    tiny_config.train_dataloader.dataset = ConfigDict(type='MultiImageMixDataset', dataset=inner,
                                                      pipeline=[dict(type=kind), dict(type='PackDetInputs')])
    text, = texts(tiny_config)
    assert f'{kind} of mmdet does not support masks; use Cached{kind}' in text
    for step in inner.pipeline:
        step.pop('with_mask', None)
    assert texts(tiny_config) == []


@pytest.mark.parametrize('kind', ['Mosaic', 'MixUp', 'CopyPaste', 'MosaicAffine'])
def test_transforms_that_require_further_images(tiny_config, kind):
    dataset = tiny_config.train_dataloader.dataset
    for step in dataset.pipeline:
        step.pop('with_mask', None)
    mixing = ConfigDict(type='MultiImageMixDataset', dataset=dataset, pipeline=[dict(type=kind)])
    tiny_config.train_dataloader.dataset = mixing
    assert texts(tiny_config) == []
    dataset.pipeline.insert(2, dict(type='CachedMosaic'))
    assert texts(tiny_config) == []
    dataset.pipeline.insert(2, dict(type=kind))
    text, = texts(tiny_config)
    assert text.startswith(f'train_dataloader.dataset.dataset.pipeline: {kind} combines several images, which Multi')
    tiny_config.train_dataloader.dataset = dataset
    text, = texts(tiny_config)
    assert text.endswith(f"to dict(type='MultiImageMixDataset', dataset=…, pipeline=[{kind}, …])")


def test_warnings(tiny_config):
    tiny_config.train_dataloader.num_workers = 1000
    tiny_config.val_dataloader.drop_last = True
    first, second = texts(tiny_config, 'warning')
    assert first.startswith('train_dataloader.num_workers=1000, but this machine has')
    assert second.startswith('val_dataloader.drop_last=True: the images of the last incomplete batch are not evaluated')


def test_samplers_that_never_end(tiny_config):
    endless = dict(type='InfiniteSampler', shuffle=True)
    tiny_config.train_dataloader.sampler = tiny_config.val_dataloader.sampler = ConfigDict(endless)
    first, second = texts(tiny_config)
    assert 'the evaluation would never end' in first and 'the first epoch would not end' in second
    for train_cfg, number in ((dict(max_epochs=3), 2), (dict(type='ResumableEpochLoop', max_epochs=3), 2),
                              (dict(by_epoch=False, max_iters=2), 1), (dict(max_iters=2), 1),
                              (dict(type='LoopOfAnotherPackage'), 1)):
        tiny_config.train_cfg = train_cfg
        assert len(texts(tiny_config)) == number, train_cfg


def test_missing_parts(tiny_config):
    tiny_config.train_dataloader.pop('sampler')
    tiny_config.val_evaluator = None
    first, second = texts(tiny_config)
    assert "train_dataloader has no 'sampler'" in first
    assert 'has val_dataloader and val_cfg, but no val_evaluator' in second


@pytest.mark.parametrize('loader, rest, says', [
    ("drop_last=True, batch_size=8, sampler=dict(type='DefaultSampler', shuffle=True)", '',
     'no batch of 8 from 6 images; drop_last=True leaves out incomplete batches'),
    ("batch_size=8, batch_sampler=dict(type='AspectRatioBatchSampler', drop_last=True), "
     "sampler=dict(type='DefaultSampler', shuffle=True)", STEPS.format(2), 'no batch of 8 from 6 images'),
])
def test_a_loader_without_batches_is_one_line(tiny_set, tmp_path, loader, rest, says):
    config = write_config(tmp_path / 'c.py', tiny_set, rest, loader=loader)
    with pytest.raises(UserError, match=f'^train_dataloader: {says}'):
        train_here(config, tmp_path / 'run')


def test_an_endless_sampler_draws_whole_batches_from_fewer_images(tiny_set, tmp_path):
    config = write_config(tmp_path / 'c.py', tiny_set, STEPS.format(1), loader='drop_last=True, batch_size=8, '
                          "sampler=dict(type='InfiniteSampler', shuffle=True)")
    assert train_here(config, tmp_path / 'run', validate=False).iter == 1


def test_numbers_that_are_text_are_read(tiny_set, tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    (tmp_path / 'c.yaml').write_text(
        '_base_: ' + str(CONFIG) + '\n'
        'optim_wrapper: {optimizer: {lr: 1e-4, betas: ["0.9", 0.99]}}\ntrain_dataloader: {batch_size: "4"}\n'
        'train_cfg: {max_epochs: "3"}\nparam_scheduler: [{type: LinearLR, start_factor: 1e-3, end: 4}]\n')
    cfg = load_config(tmp_path / 'c.yaml', ['optim_wrapper.optimizer.weight_decay="1e-2"'])
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=[0.9, 0.99], weight_decay=1e-2)
    assert (cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs) == (4, 3)
    assert cfg.param_scheduler[0].start_factor == 1e-3
