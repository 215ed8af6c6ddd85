"""vitdet_100e on one GPU: 8 images at a time, gradients of 8 steps accumulated."""

_base_ = '../vitdet_100e.py'

gpus, batch_size = 1, 8
# 1 GPU x 8 images x 8 steps = 64 images per update, as in the reference
accumulate = _base_.batch // (gpus * batch_size)
# An iteration is one forward pass: 100 ep = 184,375 x 8 = 1,475,000 it
max_iters = _base_.max_iters * accumulate
milestones = [milestone * accumulate for milestone in _base_.milestones]
val_interval = _base_.val_interval * accumulate

train_dataloader = dict(batch_size=batch_size)
optim_wrapper = dict(accumulative_counts=accumulate)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup * accumulate),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(interval=val_interval))
auto_scale_lr = dict(base_batch_size=gpus * batch_size)  # images per iteration, for which the rate is set
