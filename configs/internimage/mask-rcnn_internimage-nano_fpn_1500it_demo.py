"""A small InternImage Mask R-CNN for the CPU, trained from scratch on the demo set.

vitdet demo mask-rcnn_internimage-nano_fpn_1500it_demo
"""

_base_ = '../_base_/mask-rcnn_demo.py'

channels = 32  # of the first level
max_iters, warmup = 1500, 100  # 1,500 it x 8 images, all ranks together

model = dict(
    backbone=dict(
        type='InternImage',
        arch=dict(channels=channels, depths=(1, 1, 3, 1), groups=(2, 4, 8, 16)),
        layer_scale=1.0),
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[channels, 2 * channels, 4 * channels, 8 * channels],
        out_channels=_base_.width,
        num_outs=5,
        norm_cfg=_base_.norm_cfg))  # training from scratch requires norms in the pyramid too

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
