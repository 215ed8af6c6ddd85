"""The demo's small ViTDet in a narrow Mask R-CNN, for own data on a CPU and without a download."""

_base_ = ['../models/mask-rcnn_sfp_tiny.py', 'detection.py']

dim, grid = 128, 20
warmup = 50
model = dict(
    backbone=dict(
        type='ViTDet',
        arch=dict(embed_dim=dim, depth=6, num_heads=4),
        img_size=8 * grid,  # of the table of positions; images may have any size
        patch_size=8,
        window_size=5,
        drop_path_rate=0.0,
        pretrain_img_size=8 * grid,
        pretrain_use_cls_token=False,
        # pre-trained on drawn images, part of this package
        init_cfg=dict(type='Pretrained',
                      checkpoint='{{ fileDirname }}/../../../demo/vitdet_demo_pretrained.safetensors')),
    neck=dict(in_channels=dim),
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=500, max_per_img=300),
                   rcnn=dict(sampler=dict(num=64))),
    test_cfg=_base_.many_objects)

# one rate for all blocks, which have learned little that is worth keeping
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=1.0, backbone_lr_mult=1.0))
param_scheduler = [dict(_base_.warm_up, end=warmup), dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup,
                                                         eta_min_ratio=0.01)]
