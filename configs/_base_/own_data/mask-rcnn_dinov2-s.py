"""DINOv2's ViT-S in a narrow Mask R-CNN, for own data."""

_base_ = ['../models/mask-rcnn_dinov2-s.py', 'detection.py']

model = dict(test_cfg=_base_.many_objects)
