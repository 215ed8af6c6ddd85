"""EasyCV's recipe: GroupNorm over all channels and positions, no layer-wise decay, steps at epochs 88 and 96 of 100.

Anchors are matched and weights are initialized as in mmdet, on which EasyCV is built.

EasyCV's ViTDet checkpoints load into it: ``vitdet test THIS_FILE epoch_100.pth``.
"""

_base_ = '../vitdet_100e.py'

norm_cfg = dict(type='GN', num_groups=1, eps=1e-5)  # one group: statistics over C, H and W, unlike LayerNorm2d
model = dict(
    neck=dict(norm_cfg=norm_cfg,
              init_cfg=dict(type='Xavier', layer=['Conv2d', 'ConvTranspose2d'], distribution='uniform')),
    roi_head=dict(
        bbox_head=dict(norm_cfg=norm_cfg, init_cfg=None),
        mask_head=dict(type='BatchedMaskHead', norm_cfg=norm_cfg)),
    train_cfg=dict(
        rpn=dict(assigner=dict(type='MaxIoUAssigner', min_pos_iou=0.3), sampler=dict(type='DeferredRandomSampler'))))

jitter = dict(_base_.jitter, resize_backend='cv2')
resize = dict(_base_.resize, backend='cv2')
train_pipeline = [_base_.load_image, _base_.load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# 88 ep = 162,250 it and 96 ep = 177,000 it of 64 images
milestones = [epoch * _base_.images // _base_.batch for epoch in (88, 96)]
# no weight decay on norms, biases and position tables
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.067, by_epoch=False, begin=0, end=_base_.warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=_base_.max_iters, milestones=milestones, gamma=0.1),
]
