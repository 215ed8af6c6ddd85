"""ViTDet-B with a Cascade Mask R-CNN head: class-agnostic boxes refined in three stages, one mask head."""

_base_ = ['../vitdet_100e.py', '../_base_/models/cascade_rcnn.py']

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='ViTDetCascadeRoIHead',
        num_stages=3,
        bbox_head=_base_.cascade_box_heads),
    train_cfg=dict(rcnn=_base_.cascade_train_cfg))
