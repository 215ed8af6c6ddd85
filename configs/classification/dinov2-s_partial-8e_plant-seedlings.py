"""DINOv2's ViT-S fine-tuned on a folder of classes, 4 of 12 blocks frozen: 8 ep x 45 it = 360 it x 16 images.

It starts from the classifier of dinov2-s_probe-30e_plant-seedlings.py: --load-from its work directory.
"""

_base_ = '../_base_/plant-seedlings_dinov2-s.py'

epochs = 8
image_size = 168  # 12 x 12 patches, to save time

# no drop path: it disturbs the features that the linear classifier reads, and the training is too short to adapt
model = dict(backbone=dict(frozen_stages=4))

train_pipeline = [
    _base_.load_image,
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.4, 1.0), interpolation='bicubic'),
    _base_.flip,
    _base_.jitter,
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(type='ResizeEdge', scale=image_size, edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# block 11 has 0.75 of the rate, block 4 0.1
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=5e-5), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=epochs, T_max=epochs - 1, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=2)
custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=1e-4, gamma=10)]
default_hooks = dict(logger=dict(interval=45), checkpoint=dict(interval=4))
