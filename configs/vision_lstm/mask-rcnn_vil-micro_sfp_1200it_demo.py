"""A small ViL Mask R-CNN for the CPU, trained from scratch on the demo set: 1,200 it x 8 images."""

_base_ = '../_base_/mask-rcnn_demo.py'

dim = 128
max_iters, warmup = 1200, 100

model = dict(
    backbone=dict(
        type='VisionLSTM',
        arch=dict(dim=dim, depth=6),
        img_size=_base_.crop_size,
        stem='conv',  # from scratch, a few small convolutions learn faster than a large one
        stride=8,  # 16 x 16 tokens
        mask_padding=True),
    neck=dict(in_channels=dim))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
