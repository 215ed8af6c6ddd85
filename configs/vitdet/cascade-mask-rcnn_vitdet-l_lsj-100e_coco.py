"""ViTDet-L, Cascade Mask R-CNN, COCO, 100 epochs."""

_base_ = ['mask-rcnn_vitdet-l_lsj-100e_coco.py', '../_base_/models/cascade_rcnn.py']

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='ViTDetCascadeRoIHead',
        num_stages=3,
        bbox_head=_base_.cascade_box_heads),
    train_cfg=dict(rcnn=_base_.cascade_train_cfg))
