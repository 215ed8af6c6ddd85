"""ViTDet-B with a Cascade Mask R-CNN head: class-agnostic boxes refined in three stages, one mask head."""

_base_ = '../vitdet_100e.py'

box_head = dict(
    type='Shared4Conv1FCBBoxHead',
    in_channels=256,
    conv_out_channels=256,
    fc_out_channels=1024,
    roi_feat_size=7,
    num_classes=80,
    norm_cfg=_base_.norm_cfg,
    reg_class_agnostic=True,
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type='L1Loss', loss_weight=1.0))
# deltas are divided by these: detectron2's weights (10, 5), (20, 10), (30, 15)
stage_stds = [[1 / w, 1 / w, 2 / w, 2 / w] for w in (10, 20, 30)]
stage_ious = [0.5, 0.6, 0.7]

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='ViTDetCascadeRoIHead',
        num_stages=3,
        bbox_head=[dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds), **box_head)
                   for stds in stage_stds]),
    train_cfg=dict(
        rcnn=[
            dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou,
                               match_low_quality=False, ignore_iof_thr=-1),
                 # the first stage samples, the others take every refined box
                 sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1,
                              add_gt_as_proposals=True) if iou == 0.5 else dict(type='PseudoSampler'),
                 mask_size=28,
                 pos_weight=-1,
                 debug=False) for iou in stage_ious
        ]))
