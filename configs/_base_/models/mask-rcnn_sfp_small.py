"""A Mask R-CNN of half the usual width without a map of stride 4, for small data sets and for training on a CPU.

A config adds the backbone, whose map has stride 16, ``neck.in_channels`` and the numbers of classes.
"""

_base_ = 'mask-rcnn_sfp.py'

width, fc_width = 128, 512  # channels of the pyramid and the heads; of the box head's linear layers
strides = [8, 16, 32]  # of the maps; the region proposals use another one of 64, pooled
small_box_head = dict(type='Shared2FCBBoxHead', in_channels=width, conv_out_channels=width, fc_out_channels=fc_width)

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    neck=dict(out_channels=width, scale_factors=(2.0, 1.0, 0.5)),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        num_convs=1,
        # sides of 24, 40; 48, 80; 96, 160; 192, 320 pixels
        anchor_generator=dict(scales=[3, 5], strides=[*strides, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2), out_channels=width, featmap_strides=strides),
        bbox_head=small_box_head,
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2), out_channels=width, featmap_strides=strides),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width)),
    # fewer proposals and samples, to save time
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=500, max_per_img=200),
                   rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200)))
