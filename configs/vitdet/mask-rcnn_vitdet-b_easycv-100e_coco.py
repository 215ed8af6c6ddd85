"""EasyCV's recipe: GroupNorm over all channels and places, no layer-wise decay, steps at epochs 88 and 96 of 100.

Takes EasyCV's ViTDet checkpoints: ``tools/test.py THIS_FILE epoch_100.pth`` reads their names.
"""

_base_ = '../vitdet_100e.py'

norm_cfg = dict(type='GN', num_groups=1, eps=1e-5)  # one group: statistics over C, H and W, unlike LayerNorm2d
model = dict(
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    dict(type='LargeScaleJitter', image_size=1024, scale=(0.1, 2.0), resize_backend='cv2'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 1024), keep_ratio=True, backend='cv2'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# 88 ep = 162,250 it and 96 ep = 177,000 it of 64 images
milestones = [epoch * _base_.images // _base_.batch for epoch in (88, 96)]
# norms, biases and position tables without weight decay
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.067, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=_base_.max_iters, milestones=milestones, gamma=0.1),
]
