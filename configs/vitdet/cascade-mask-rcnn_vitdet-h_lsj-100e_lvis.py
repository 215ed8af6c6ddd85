"""ViTDet-H, Cascade Mask R-CNN, LVIS, 100 epochs: every stage with the federated loss."""

_base_ = ['mask-rcnn_vitdet-h_lsj-100e_lvis.py', '../_base_/models/cascade_rcnn.py']

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='ViTDetCascadeRoIHead',
        num_stages=3,
        bbox_head=[dict(head, num_classes=1203, loss_cls=_base_.loss_cls) for head in _base_.cascade_box_heads]),
    train_cfg=dict(rcnn=_base_.cascade_train_cfg))
