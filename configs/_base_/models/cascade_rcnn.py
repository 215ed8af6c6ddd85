"""ViTDet's Cascade Mask R-CNN as changes of a Mask R-CNN: ``model = _base_.cascade_model`` in a config."""

_box_head = dict(
    type='Shared4Conv1FCBBoxHead',
    in_channels=256,
    conv_out_channels=256,
    fc_out_channels=1024,
    roi_feat_size=7,
    num_classes=80,
    norm_cfg=dict(type='LayerNorm2d', eps=1e-6),
    reg_class_agnostic=True,
    init_cfg=[dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
              dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
              dict(type='Caffe2Xavier', override=dict(name='shared_fcs'))],
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type='L1Loss', loss_weight=1.0))
# regression targets are divided by these: detectron2's weights (10, 5), (20, 10), (30, 15)
_stage_stds = [[1 / w, 1 / w, 2 / w, 2 / w] for w in (10, 20, 30)]
cascade_box_heads = [
    dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds), **_box_head) for stds in _stage_stds]

cascade_train_cfg = [
    dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou,
                       match_low_quality=False, ignore_iof_thr=-1),
         # the first stage samples, the others take every refined box
         sampler=dict(type='DeferredRandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1,
                      add_gt_as_proposals=True) if iou == 0.5 else dict(type='DeferredPseudoSampler'),
         mask_size=28,
         pos_weight=-1,
         debug=False) for iou in (0.5, 0.6, 0.7)
]

cascade_model = dict(
    type='CascadeRCNN',
    roi_head=dict(type='ViTDetCascadeRoIHead', num_stages=3, bbox_head=cascade_box_heads),
    train_cfg=dict(rcnn=cascade_train_cfg))
