"""DINOv2's ViT-S in a narrow Mask R-CNN, for data sets of 50 to 5,000 images. A config adds the numbers of classes."""

_base_ = ['mask-rcnn_sfp_small.py', 'dino_small.py']

model = dict(backbone=_base_.dinov2_s, neck=dict(in_channels=384))
