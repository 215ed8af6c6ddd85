"""ViTDet-H, Mask R-CNN, COCO, 75 epochs."""

_base_ = ['../vitdet_100e.py', '../_base_/models/vitdet_sizes.py']

model = dict(backbone=dict(drop_path_rate=0.5, **_base_.vit_huge), neck=dict(in_channels=_base_.huge_dim))

# Schedule: 75 ep = 3/4 of 184,375 it = 138,281 it x 64 images; milestones are scaled by the same factor
max_iters = _base_.max_iters * 3 // 4
milestones = [milestone * 3 // 4 for milestone in _base_.milestones]  # 122,916 and 133,159
warmup = _base_.warmup * max_iters / _base_.max_iters  # 187.5 it: detectron2 keeps the part of the schedule

# layer i of L = 32: learning rate x 0.9 ** (33 - i); weight decay on all parameters, unlike B and L
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9, no_decay='none'))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
