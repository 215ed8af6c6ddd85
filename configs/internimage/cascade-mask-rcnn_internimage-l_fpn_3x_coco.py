"""InternImage-L, Cascade Mask R-CNN, COCO, 36 epochs with multi-scale crops, averaged weights."""

_base_ = ['cascade-mask-rcnn_internimage-l_fpn_1x_coco.py', '../_base_/datasets/multiscale_crop.py']

# Schedule: 36 ep = 36 x 118,000 images = 66,375 it x 64 images
epochs, batch = 36, 64  # 32 GPUs x 2 images
max_iters = epochs * _base_.images // batch
milestones = [max_iters * epoch // epochs for epoch in (27, 33)]
val_interval = _base_.images // batch

train_dataloader = dict(dataset=dict(pipeline=_base_.multiscale_crop_pipeline))
# layer i of L = 37: learning rate x 0.9 ** (38 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=2e-4))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, update_buffers=True, priority=49)]
default_hooks = dict(checkpoint=dict(interval=val_interval))
