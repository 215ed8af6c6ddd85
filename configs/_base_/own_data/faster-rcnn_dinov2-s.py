"""DINOv2's ViT-S in a narrow Faster R-CNN (boxes only), for own data."""

_base_ = ['../models/faster-rcnn_dinov2-s.py', 'detection.py']

model = dict(test_cfg=_base_.many_objects)
load = [_base_.load_image, _base_.load_boxes]
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
