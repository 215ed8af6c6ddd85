"""ViL-T, Mask R-CNN with a simple feature pyramid, COCO, 100 epochs of large-scale jitter.

No results of Vision-LSTM on COCO have been published: schedule and heads are ViTDet's; weight decay, clipping and
stochastic depth are those of ViL's training on ImageNet. Not tuned.
"""

_base_ = ['../_base_/models/mask-rcnn_sfp.py', '../_base_/datasets/coco_lsj.py', '../_base_/schedules/vitdet_100e.py',
          '../_base_/runtime.py']

model = dict(
    data_preprocessor=dict(pad_size_divisor=_base_.image_size),
    backbone=dict(
        type='VisionLSTM',
        arch='tiny',
        drop_path_rate=0.0,
        mask_padding=True,  # an image's features do not depend on its padding
        init_cfg=dict(type='Pretrained', checkpoint='vil2_tiny')),  # the official file
    neck=dict(in_channels=192))

# layer i of L = 24: learning rate x 0.9 ** (25 - i)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=0.9, no_decay='plain'), optimizer=dict(weight_decay=0.05),
    clip_grad=dict(max_norm=1.0))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
