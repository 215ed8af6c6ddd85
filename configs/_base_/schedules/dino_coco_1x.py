"""DINO's schedule on COCO: AdamW, 12 epochs of 16 images per step, rate / 10 at epoch 11, gradients clipped to 0.1."""

_base_ = 'adamw_coco_1x.py'

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4), clip_grad=dict(max_norm=0.1, norm_type=2))
milestones = [_base_.max_iters * 11 // _base_.epochs]
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=_base_.max_iters, milestones=milestones, gamma=0.1),
]
