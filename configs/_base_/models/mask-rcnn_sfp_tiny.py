"""A narrow Mask R-CNN on a simple feature pyramid, for a backbone with a map of stride 8 and training on a CPU.

A config adds the backbone, ``neck.in_channels`` and the numbers of classes.
"""

_base_ = 'mask-rcnn_sfp.py'

width = 64  # channels of the pyramid and the heads

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    neck=dict(out_channels=width, scale_factors=(2.0, 1.0, 0.5, 0.25)),  # strides 4, 8, 16, 32 and, pooled, 64
    rpn_head=dict(in_channels=width, feat_channels=width, num_convs=1, anchor_generator=dict(scales=[3])),
    roi_head=dict(
        # boxes of up to 56 pixels are pooled from stride 4, of up to 112 from stride 8, …
        bbox_roi_extractor=dict(out_channels=width, finest_scale=28),
        bbox_head=dict(type='ConvFCBBoxHead', num_shared_convs=2, num_shared_fcs=1, in_channels=width,
                       conv_out_channels=width, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=width, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width)),
    # few samples and proposals, to save time
    train_cfg=dict(rpn=dict(sampler=dict(num=64)), rpn_proposal=dict(nms_pre=200, max_per_img=100),
                   rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200)))
