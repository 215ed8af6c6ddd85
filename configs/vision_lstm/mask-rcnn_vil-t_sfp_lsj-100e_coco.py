"""ViL-T, Mask R-CNN with a simple feature pyramid, COCO, 100 epochs of large-scale jitter.

Nobody has published Vision-LSTM on COCO: schedule and heads are ViTDet's, weight decay, clipping and stochastic depth
those of ViL's own training. Not tuned.
"""

_base_ = '../vitdet_100e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionLSTM',
        arch='tiny',
        drop_path_rate=0.0,
        mask_padding=True,  # a picture's features do not depend on what it is padded with
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vil2-tiny.th')),  # the official file
    neck=dict(in_channels=192))

# layer i of L = 24 learns at 0.9 ** (25 - i) of the rate
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=0.9, no_decay='plain'), optimizer=dict(weight_decay=0.05),
    clip_grad=dict(max_norm=1.0))
