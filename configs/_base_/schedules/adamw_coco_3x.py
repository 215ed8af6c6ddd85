"""Schedule of ConvNeXt on COCO: AdamW, 36 epochs, 16 images per step, rate / 10 at epochs 27 and 33."""

_base_ = 'adamw_coco_1x.py'

# Schedule: 36 ep = 36 x 118,000 images = 265,500 it x 16 images
epochs = 36
max_iters = epochs * _base_.images // _base_.batch
milestones = [max_iters * epoch // epochs for epoch in (27, 33)]

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95), optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
