"""A linear classifier on the features of DINOv2's ViT-S, which stays frozen: 30 ep x 45 it = 1,350 it x 16 images.

The images vary by flips only, and the features of each of the four variants are computed once and stored.
"""

_base_ = '../_base_/plant-seedlings_dinov2-s.py'

epochs = 30

model = dict(backbone=dict(frozen_stages=12, feature_cache='work_dirs/features'))
resize = dict(type='ResizeEdge', scale=_base_.image_size, edge='short', interpolation='bicubic')
crop = dict(type='CenterCrop', crop_size=_base_.image_size)
train_pipeline = [_base_.load_image, resize, crop, _base_.flip, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=epochs, T_max=epochs - 1, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=10)
default_hooks = dict(logger=dict(interval=45), checkpoint=dict(interval=10))
