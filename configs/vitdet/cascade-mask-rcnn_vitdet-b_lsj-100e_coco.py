"""ViTDet-B, Cascade Mask R-CNN, COCO, 100 epochs: class-agnostic boxes refined in three stages, one mask head."""

_base_ = ['../vitdet_100e.py', '../_base_/models/cascade_rcnn.py']

model = _base_.cascade_model
