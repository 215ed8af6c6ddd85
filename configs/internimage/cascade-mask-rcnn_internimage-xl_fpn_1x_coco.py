"""InternImage-XL, Cascade Mask R-CNN, COCO, 12 epochs."""

_base_ = 'cascade-mask-rcnn_internimage-l_fpn_1x_coco.py'

model = dict(
    backbone=dict(arch='xlarge', init_cfg=dict(checkpoint='internimage_xl_22k_192to384')),
    neck=dict(in_channels=[192, 384, 768, 1536]))
