"""A classifier of 40,000 parameters on the images of tiny_classes.py, with incomplete batches and averaged weights."""

_base_ = ['../../configs/_base_/datasets/plant_seedlings.py', '../../configs/_base_/schedules/adamw_cosine_300e.py',
          '../../configs/_base_/runtime_cls.py']

data_root = '{{$TINY_CLASSES:no_such_folder}}/'
classes = ('Fat Hen', 'lime', 'plum-tree')
size, dim, epochs = 32, 32, 4
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=len(classes)),
    backbone=dict(type='ViTDet', arch=dict(embed_dim=dim, depth=2, num_heads=2), img_size=size, patch_size=8,
                  window_size=0, drop_path_rate=0.1, pretrain_img_size=size, pretrain_use_cls_token=False),
    head=dict(type='LayerNormClsHead', num_classes=len(classes), in_channels=dim,
              loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)], probs=[0.3, 0.3]))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=size, edge='short'),
    dict(type='CenterCrop', crop_size=size),
    dict(type='PackInputs'),
]
common = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                        dataset=dict(pipeline=train_pipeline, **common))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                      dataset=dict(pipeline=test_pipeline, **common))
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1, 2)), dict(type='SingleLabelMetric', items=['f1-score'])]
test_evaluator = val_evaluator

optim_wrapper = dict(clip_grad=dict(max_norm=5.0), paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=5e-3))
auto_scale_lr = dict(base_batch_size=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=epochs, T_max=epochs - 1, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=1)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(max_keep_ckpts=-1))
custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=1e-4, gamma=10),
                dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=10, min_delta=0.1)]
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(vis_backends=vis_backends)
