"""ViTDet-H, Cascade Mask R-CNN, COCO, 75 epochs."""

_base_ = ['mask-rcnn_vitdet-h_lsj-75e_coco.py', '../_base_/models/cascade_rcnn.py']

model = _base_.cascade_model
