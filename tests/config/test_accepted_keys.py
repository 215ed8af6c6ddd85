"""``--cfg-options``: keys that builders of mmengine, mmdet and mmpretrain read are accepted, misspelt ones are not."""

import pytest
from mmengine.config import Config

from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.options import apply_options, parse_options
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.errors import UserError

STANDARD = [
    'optim_wrapper.constructor=LayerWiseDecayConstructor',
    'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.2',
    'optim_wrapper.paramwise_cfg.norm_decay_mult=0', 'optim_wrapper.paramwise_cfg.layer_decay_rate=0.7',
    'optim_wrapper.paramwise_cfg.no_decay=d2', 'optim_wrapper.paramwise_cfg.num_layers=6',
    'optim_wrapper.clip_grad.max_norm=1', 'optim_wrapper.accumulative_counts=2', 'optim_wrapper.optimizer.fused=True',
    'param_scheduler.0.convert_to_iter_based=True', 'param_scheduler.0.verbose=False',
    'train_dataloader.num_batch_per_epoch=3', 'train_dataloader.batch_sampler.type=AspectRatioBatchSampler',
    'train_dataloader.collate_fn.type=pseudo_collate', 'train_dataloader.pin_memory=True',
    'train_dataloader.dataset.serialize_data=False', 'train_dataloader.dataset.lazy_init=True',
    'train_dataloader.sampler.round_up=False', 'train_dataloader.dataset.pipeline.0.imdecode_backend=pillow',
    'train_cfg.val_begin=2', 'train_cfg.dynamic_intervals=[(1,1)]', 'test_cfg.fp16=True', 'val_cfg.fp16=True',
    'default_hooks.checkpoint.priority=LOW', 'default_hooks.logger.ignore_last=False',
    'default_hooks.sampler_seed=None',
    'default_hooks.early.type=EarlyStoppingHook', 'default_hooks.visualization.draw=True', 'custom_hooks.0.priority=49',
    'env_cfg.dist_cfg.timeout=60', 'env_cfg.mp_cfg.opencv_num_threads=1', 'env_cfg.resource_limit=8192',
    'env_cfg.cudnn_benchmark=True', 'log_processor.window_size=5', 'log_processor.type=LogProcessor',
    'visualizer.vis_backends.0.name=a', 'visualizer.vis_backends.0.save_dir=b', 'visualizer.save_dir=c',
    'model.data_preprocessor.pad_size_divisor=64', 'model.data_preprocessor.batch_augments=None',
    'model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=x.pth', 'model._scope_=mmdet',
    'model.neck.norm_cfg.requires_grad=False', 'test_evaluator.collect_device=gpu', 'val_evaluator.classwise=True',
    'model_wrapper_cfg.find_unused_parameters=True', 'model_wrapper_cfg.type=MMDistributedDataParallel',
    'find_unused_parameters=True', 'strategy.type=DDPStrategy', 'auto_scale_lr.enable=True', 'sync_bn=torch',
    'compile.mode=reduce-overhead', 'compile.target=forward', 'randomness.diff_rank_seed=True',
    'channels_last=True', 'activation_checkpointing=[backbone]', 'experiment_name=x',
    'custom_imports.allow_failed_imports=False',
    'tta_model.type=DetTTAModel', 'tta_model.tta_cfg.max_per_img=100']
MISSPELT = [
    ('optim_wrapper.construktor=x', 'constructor'),
    ('optim_wrapper.paramwise_cgf.custom_keys.a.lr_mult=1', 'paramwise'),
    ('optim_wrapper.paramwise_cfg.custom_kyes.backbone.lr_mult=1', 'custom_keys'),
    ('optim_wrapper.paramwise_cfg.norm_decay_mul=0', 'norm_decay_mult'),
    ('optim_wrapper.clip_grad.maxnorm=1', 'max_norm'),
    ('param_scheduler.0.convert_to_iter=True', 'convert_to_iter_based'),
    ('train_dataloader.num_batches_per_epoch=3', 'num_batch_per_epoch'), ('train_dataloader.pin_memry=1', 'pin_memory'),
    ('train_dataloader.dataset.pipeline.0.imdecode_backnd=cv2', 'imdecode_backend'),
    ('default_hooks.chekpoint.interval=1', 'checkpoint'), ('default_hooks.checkpoint.priorty=LOW', 'priority'),
    ('custom_hooks.0.priorit=49', 'priority'), ('env_cfg.resource_limt=1', 'resource_limit'),
    ('env_cfg.dist_cfg.timout=1', 'timeout'), ('env_cfg.mp_cfg.opencv_threads=1', 'opencv_num_threads'),
    ('log_processor.windw_size=5', 'window_size'), ('visualizer.vis_backends.0.savedir=b', 'save_dir'),
    ('model.data_preprocessor.pad_size_divisr=64', 'pad_size_divisor'),
    ('model.neck.norm_cfg.requires_gradd=1', 'requires_grad'),
    ('model_wrapper_cfg.find_unused_paramters=True', 'find_unused_parameters'), ('compile.mod=x', 'mode'),
    ('auto_scale_lr.base_batchsize=1', 'base_batch_size'), ('custom_imports.import=[a]', 'imports')]


def config():
    import_scope('mmdet')
    data = dict(type='CocoDataset', pipeline=[dict(type='LoadImageFromFile')])
    return Config(dict(
        model=dict(type='MaskRCNN', data_preprocessor=dict(type='DetDataPreprocessor'), backbone=dict(type='ViTDet'),
                   neck=dict(type='FPN', in_channels=[8], norm_cfg=dict(type='BN'))),
        train_dataloader=dict(batch_size=1, dataset=data, sampler=dict(type='DefaultSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=2), val_cfg=dict(), test_cfg=dict(type='TestLoop'),
        optim_wrapper=dict(type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=1.0)), env_cfg=dict(mp_cfg=dict()),
        param_scheduler=[dict(type='LinearLR')], custom_hooks=[dict(type='EMAHook')], log_processor=dict(by_epoch=True),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook'), logger=dict(type='LoggerHook')),
        visualizer=dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
        val_evaluator=dict(type='CocoMetric'), test_evaluator=dict(type='CocoMetric'), randomness=dict(seed=0)))


@pytest.mark.parametrize('word', STANDARD)
def test_standard_keys_are_accepted(word):
    apply_options(config(), parse_options([word]))


@pytest.mark.parametrize(('word', 'meant'), MISSPELT)
def test_misspelt_keys_are_refused_with_the_nearest_name(word, meant):
    with pytest.raises(UserError, match=f'has no key .*did you mean .*{meant}'):
        apply_options(config(), parse_options([word]))


def test_keys_below_sections_that_the_config_has():
    cfg = config()
    for name, factor in dict(backbone=0.2, head=0.5).items():
        apply_options(cfg, parse_options([f'optim_wrapper.paramwise_cfg.custom_keys.{name}.lr_mult={factor}']))
    assert cfg.optim_wrapper.paramwise_cfg == dict(custom_keys=dict(backbone=dict(lr_mult=0.2), head=dict(lr_mult=0.5)))
    cfg.optim_wrapper.paramwise_cfg = None
    with pytest.raises(UserError, match='did you mean custom_keys'):
        apply_options(cfg, parse_options(['optim_wrapper.paramwise_cfg.custum_keys.backbone.lr_mult=1']))


def test_classes_of_one_name_in_several_packages():
    import_scope('mmdet')
    import_scope('mmpretrain')
    pipeline = [dict(type='RandomCrop', crop_size=8), dict(type='mmdet.RandomCrop', crop_size=8)]
    cfg = Config(dict(default_scope='mmpretrain', model=dict(type='ImageClassifier', train_cfg=dict()),
                      train_dataloader=dict(dataset=dict(type='CustomDataset', pipeline=pipeline))))
    apply_options(cfg, parse_options(['train_dataloader.dataset.pipeline.0.pad_if_needed=True',
                                      'train_dataloader.dataset.pipeline.1.recompute_bbox=True',
                                      'model.train_cfg.augments.type=Mixup']))
    with pytest.raises(UserError, match="has no key 'pad_if_needed'"):
        apply_options(cfg, parse_options(['train_dataloader.dataset.pipeline.1.pad_if_needed=True']))


def test_configs_in_pure_python(tmp_path):
    path = tmp_path / 'lazy.py'
    path.write_text('from mmengine.config import read_base\nwith read_base():\n    from .part import *\n')
    (tmp_path / '__init__.py').touch()
    (tmp_path / 'part.py').write_text(
        'from mmengine.hooks import CheckpointHook\nfrom mmengine.optim import LinearLR, OptimWrapper\n'
        'from torch.optim import AdamW\noptim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1.0))\n'
        'default_hooks = dict(checkpoint=dict(type=CheckpointHook))\nparam_scheduler = [dict(type=LinearLR)]\n')
    cfg = load_config(path, ['optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.2',
                             'optim_wrapper.constructor=LayerWiseDecayConstructor',
                             'optim_wrapper.optimizer.fused=True',
                             'default_hooks.checkpoint.priority=LOW', 'param_scheduler.0.convert_to_iter_based=True'])
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.2
    assert cfg.param_scheduler[0].convert_to_iter_based is True
    for word, meant in [*MISSPELT[:4], ('param_scheduler.0.convert_to_iter=True', 'convert_to_iter_based')]:
        with pytest.raises(UserError, match=f'did you mean .*{meant}'):
            load_config(path, [word])
