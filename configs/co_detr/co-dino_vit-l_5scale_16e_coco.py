"""ViT-L (EVA-02), Co-DINO with five levels, COCO, 16 epochs at up to 2048 x 1280 (``co_dino_5scale_vit_large_coco``).

Sense-X, the reference, starts from its own training on Objects365; here it is EVA-02's pre-training.
"""

_base_ = ['../_base_/models/co_dino_5scale.py', '../_base_/models/eva02.py', '../_base_/datasets/coco_detr.py',
          '../_base_/schedules/dino_coco_1x.py', '../_base_/runtime.py']

batch = 16  # 16 GPUs x 1 image; the reference does not state their number
epochs, epoch = 16, 118_000 // batch
max_iters = epochs * epoch

model = dict(
    backbone=dict(
        _base_.eva02_large,
        img_size=512,  # table of absolute positions: 32 x 32
        window_size=24,
        global_block_indexes=[3, 7, 11, 15, 19, 23]),
    # strides 4, 8, 16, 32 and 64 from the only map of stride 16
    neck=dict(_delete_=True, type='ConvFeaturePyramid', in_channels=1024, out_channels=_base_.width))

sides = [(side, 2048) for side in range(480, 1281, 32)]
resize = dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[
        [resize],
        [dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
         dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
         resize]]),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1280), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=False)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# layer i of L = 24: learning rate x 0.8 ** (25 - i)
optim_wrapper = dict(optimizer=dict(lr=5e-5, weight_decay=0.01), paramwise_cfg=dict(layer_decay_rate=0.8))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[9 * epoch, 15 * epoch], gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=epoch)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=epoch))
custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, priority=49)]
