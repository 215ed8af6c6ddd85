"""DINOv2's ViT-S in a narrow Mask R-CNN, for own data."""

_base_ = ['../models/mask-rcnn_dinov2-s.py', 'detection.py']
