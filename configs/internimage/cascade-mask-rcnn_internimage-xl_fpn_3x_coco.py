"""InternImage-XL, Cascade Mask R-CNN, COCO, 36 epochs with multi-scale crops, averaged weights."""

_base_ = 'cascade-mask-rcnn_internimage-l_fpn_3x_coco.py'

model = dict(
    backbone=dict(
        arch='xlarge', drop_path_rate=0.6, init_cfg=dict(checkpoint='internimage_xl_22k_192to384')),
    neck=dict(in_channels=[192, 384, 768, 1536]))
