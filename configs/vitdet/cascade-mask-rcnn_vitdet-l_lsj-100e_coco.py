"""ViTDet-L, Cascade Mask R-CNN, COCO, 100 epochs."""

_base_ = ['mask-rcnn_vitdet-l_lsj-100e_coco.py', '../_base_/models/cascade_rcnn.py']

model = _base_.cascade_model
