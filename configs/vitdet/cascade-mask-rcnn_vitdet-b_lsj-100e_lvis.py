"""ViTDet-B, Cascade Mask R-CNN, LVIS, 100 epochs: federated loss in every stage."""

_base_ = ['mask-rcnn_vitdet-b_lsj-100e_lvis.py', '../_base_/models/cascade_rcnn.py']

box_heads = [dict(head, num_classes=_base_.lvis_classes, loss_cls=_base_.lvis_loss)
             for head in _base_.cascade_box_heads]
model = dict(_base_.cascade_model, roi_head=dict(_base_.cascade_model.roi_head, bbox_head=box_heads))
