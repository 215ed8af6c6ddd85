"""DINOv2's ViT-S in YOLOv5, for own data: a simple feature pyramid makes three maps of the backbone's last one."""

_base_ = ['yolov5.py', '../models/dino_small.py']

width = 128
pyramid = dict(type='SimpleFeaturePyramid', in_channels=384, out_channels=width, scale_factors=(2.0, 1.0, 0.5),
               num_outs=3)  # strides 8, 16, 32
model = dict(
    backbone=_base_.dinov2_s,
    neck=[pyramid, dict(type='YOLOv5PAFPN', in_channels=[width] * 3, num_csp_blocks=1)],
    bbox_head=dict(in_channels=[width] * 3))
