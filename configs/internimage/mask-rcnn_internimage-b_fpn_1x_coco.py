"""InternImage-B, Mask R-CNN, COCO, 12 epochs."""

_base_ = 'mask-rcnn_internimage-t_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        arch='base', drop_path_rate=0.4, init_cfg=dict(checkpoint='internimage_b_1k_224')),
    neck=dict(in_channels=[112, 224, 448, 896]))
