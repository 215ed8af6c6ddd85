"""A small VOLO Mask R-CNN for the CPU, trained from scratch on the demo set (`vitdet demo THIS_FILE`)."""

_base_ = '../_base_/mask-rcnn_demo.py'

dim = 64  # of the outlookers; twice that in the transformer blocks
max_iters, warmup = 800, 50  # 800 it x 8 images, all ranks together

model = dict(
    # patches of 4 pixels instead of 8, for small objects: maps of strides 4, 8 and 16
    backbone=dict(
        type='VOLO',
        arch=dict(layers=(3, 2, 2, 1), embed_dims=(dim, 2 * dim, 2 * dim, 2 * dim), num_heads=(2, 4, 4, 4),
                  mlp_ratios=(3, 3, 3, 3), stem_hidden_dim=32),
        img_size=_base_.crop_size,
        patch_size=4,
        out_indices=(0, 1, 2)),
    neck=dict(_delete_=True, type='FPN', in_channels=[dim, 2 * dim, 2 * dim], out_channels=_base_.width, num_outs=5))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
