"""InternImage-XL, Cascade R-CNN (boxes only), CrowdHuman, 36 epochs with multi-scale crops."""

_base_ = [
    '../_base_/models/cascade-rcnn_fpn.py', 'mmdet::_base_/datasets/coco_detection.py',
    '../_base_/datasets/crowdhuman.py', '../_base_/datasets/multiscale_crop.py',
    '../_base_/schedules/adamw_coco_1x.py', '../_base_/runtime.py',
]

# Schedule: 36 ep = 36 x 15,000 images = 4,218 it x 128 images
epochs, images, batch = 36, _base_.crowdhuman_images, 128  # 64 GPUs x 2 images
max_iters, val_interval = epochs * images // batch, images // batch
milestones = [epoch * images // batch for epoch in (27, 33)]

_stage_stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
_box_head = dict(
    type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=1024, roi_feat_size=7,
    num_classes=_base_.crowdhuman_classes, reg_class_agnostic=True,
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0))
model = dict(
    backbone=dict(
        _delete_=True, type='InternImage', arch='xlarge', layer_scale=1.0, drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_xl_22k_192to384')),
    neck=dict(in_channels=[192, 384, 768, 1536]),
    roi_head=dict(bbox_head=[
        dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds), **_box_head) for stds in _stage_stds]))

train_set = dict(pipeline=_base_.multiscale_crop_boxes, **_base_.crowdhuman_train)
val_set = dict(pipeline=_base_.test_pipeline, **_base_.crowdhuman_val)
# the schedule counts iterations
train_dataloader = dict(sampler=dict(type='InfiniteSampler'), dataset=dict(_delete_=True, **train_set))
val_dataloader = dict(dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **_base_.crowdhuman_metric)
test_evaluator = val_evaluator

# layer i of L = 39: learning rate x 0.94 ** (40 - i)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4), paramwise_cfg=dict(layer_decay_rate=0.94))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
