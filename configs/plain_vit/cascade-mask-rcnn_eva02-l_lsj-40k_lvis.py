"""EVA-02-L, Cascade Mask R-CNN, LVIS, 40,000 iterations at 1024 pixels, federated loss (``eva02_L_lvis_bsl``)."""

_base_ = 'cascade-mask-rcnn_eva02-b_lsj-50k_lvis.py'

model = dict(
    backbone=dict(_base_.eva02_large, init_cfg=dict(checkpoint='eva02_l_pt_in21k_p14to16')),
    neck=dict(in_channels=1024))

max_iters = 40_000
milestones = [max_iters * 8 // 10, max_iters * 9 // 10]
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
