"""DINOv2's ViT-S fine-tuned on a folder of classes, its first 4 of 12 blocks frozen: 10 ep x 45 it x 16 images."""

_base_ = '../_base_/plant-seedlings_dinov2-s.py'

epochs, warmup = 10, 1

model = dict(backbone=dict(frozen_stages=4, drop_path_rate=0.1))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=2)
custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=1e-4, gamma=10)]
default_hooks = dict(logger=dict(interval=45), checkpoint=dict(interval=10))
