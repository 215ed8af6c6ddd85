"""InternImage-L, Cascade Mask R-CNN, COCO, 12 epochs (arXiv 2211.05778, section 4.2)."""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn.py', '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_coco_1x.py', '../_base_/runtime.py',
]

_box_head = dict(
    type='Shared4Conv1FCBBoxHead',
    in_channels=256,
    conv_out_channels=256,
    fc_out_channels=1024,
    roi_feat_size=7,
    num_classes=80,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    reg_class_agnostic=False,
    reg_decoded_bbox=True,  # the loss is computed on boxes
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type='GIoULoss', loss_weight=10.0))
_stage_stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]

model = dict(
    backbone=dict(
        _delete_=True,
        type='InternImage',
        arch='large',
        layer_scale=1.0,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_l_22k_192to384')),
    neck=dict(in_channels=[160, 320, 640, 1280]),
    roi_head=dict(bbox_head=[
        dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds), **_box_head) for stds in _stage_stds]))

# layer i of L = 37: learning rate x 0.94 ** (38 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.94))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
