"""Mask R-CNN with ConvNeXt-T, COCO, 36 epochs, multi-scale crops (arXiv 2201.03545, section 4 and appendix A.3)."""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py', '../_base_/datasets/coco_lsj.py',
    '../_base_/datasets/multiscale_crop.py', '../_base_/schedules/adamw_coco_1x.py', '../_base_/runtime.py',
]

# Schedule: 36 ep = 36 x 118,000 images = 265,500 it x 16 images
epochs = 36
max_iters = epochs * _base_.images // _base_.batch
milestones = [max_iters * epoch // epochs for epoch in (27, 33)]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXtBackbone',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convnext_tiny_1k_224_ema.pth')),
    neck=dict(in_channels=[96, 192, 384, 768]))

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.multiscale_crop_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95), optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
