"""EVA-02-B, Cascade Mask R-CNN, COCO, 60,000 iterations at 1024 pixels (arXiv 2303.11331; ``eva02_B_coco_bsl``)."""

_base_ = ['../_base_/models/mask-rcnn_sfp.py', '../_base_/models/cascade_rcnn.py', '../_base_/models/eva02.py',
          '../_base_/datasets/coco_lsj.py', '../_base_/schedules/vitdet_100e.py', '../_base_/runtime.py']

model = dict(
    _base_.cascade_model,
    data_preprocessor=dict(pad_size_divisor=_base_.image_size),
    backbone=_base_.eva02_base,
    neck=dict(in_channels=768))

# 60,000 it x 128 images; the learning rate x 0.1 after 80 % and again after 90 %
batch, max_iters, warmup = 128, 60_000, 1000
milestones = [max_iters * 8 // 10, max_iters * 9 // 10]
train_dataloader = dict(batch_size=16)  # 8 GPUs x 16 images; the reference used 32 GPUs x 4
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='none'),
    optimizer=dict(lr=5e-5))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
