"""InternImage-S, Mask R-CNN, COCO, 12 epochs."""

_base_ = 'mask-rcnn_internimage-t_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        arch='small', drop_path_rate=0.3, init_cfg=dict(checkpoint='internimage_s_1k_224')),
    neck=dict(in_channels=[80, 160, 320, 640]))
