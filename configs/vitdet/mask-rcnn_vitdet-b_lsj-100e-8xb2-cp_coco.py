"""vitdet_100e on eight 24 GB GPUs: 2 images each, activation checkpointing, bf16."""

_base_ = '../vitdet_100e.py'

gpus, batch_size = 8, 2
# 8 GPUs x 2 images x 4 steps = 64 images per update, as in the reference
accumulate = _base_.batch // (gpus * batch_size)
# An iteration is one forward pass: 100 ep = 184,375 x 4 = 737,500 it
max_iters = _base_.max_iters * accumulate
milestones = [milestone * accumulate for milestone in _base_.milestones]
val_interval = _base_.val_interval * accumulate

model = dict(backbone=dict(with_cp=True))  # activations are computed again in the backward pass
train_dataloader = dict(batch_size=batch_size)
optim_wrapper = dict(type='AutocastOptimWrapper', dtype='bf16', accumulative_counts=accumulate)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup * accumulate),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(interval=val_interval))
auto_scale_lr = dict(base_batch_size=gpus * batch_size)  # images per iteration, for which the rate is set
