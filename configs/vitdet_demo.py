"""The demo: a small ViTDet Mask R-CNN for the CPU, trained on the demo set in minutes (`vitdet demo`)."""

_base_ = '_base_/mask-rcnn_demo.py'

image_size = _base_.demo_side
dim = 128
max_iters, warmup = 1000, 50  # 1,000 it x 8 images, all ranks together

model = dict(
    backbone=dict(
        type='ViTDet',
        arch=dict(embed_dim=dim, depth=6, num_heads=4),
        img_size=image_size,
        patch_size=8,  # 20 x 20 tokens
        window_size=5,
        drop_path_rate=0.0,
        pretrain_img_size=image_size,
        pretrain_use_cls_token=False,
        # made by vitdet demo pretrain from other images; the full recipe starts from MAE in the same way
        init_cfg=dict(type='Pretrained', checkpoint='{{ fileDirname }}/../demo/vitdet_demo_pretrained.safetensors')),
    neck=dict(in_channels=dim))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
