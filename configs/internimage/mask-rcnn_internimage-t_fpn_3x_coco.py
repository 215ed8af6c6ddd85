"""InternImage-T, Mask R-CNN, COCO, 36 epochs with multi-scale crops."""

_base_ = ['mask-rcnn_internimage-t_fpn_1x_coco.py', '../_base_/datasets/multiscale_crop.py']

# Schedule: 36 ep = 36 x 118,000 images = 265,500 it x 16 images
epochs = 36
max_iters = epochs * _base_.images // _base_.batch
milestones = [max_iters * epoch // epochs for epoch in (27, 33)]

train_dataloader = dict(dataset=dict(pipeline=_base_.multiscale_crop_pipeline))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
