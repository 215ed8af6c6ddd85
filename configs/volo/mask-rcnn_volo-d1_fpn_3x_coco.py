"""Mask R-CNN with VOLO-D1, COCO, 36 epochs of multi-scale crops: a proposal, no VOLO detectors have been published.

The pyramid is built on maps of strides 8, 16 and 32, so anchors are 4 strides wide instead of 8.
"""

_base_ = ['../_base_/models/mask-rcnn_fpn.py', '../_base_/datasets/coco_multiscale.py',
          '../_base_/schedules/adamw_coco_3x.py', '../_base_/runtime.py']

dims = [192, 384, 384]
map_strides = [8, 16, 32]

model = dict(
    backbone=dict(
        _delete_=True,
        type='VOLO',
        arch='d1',
        out_indices=(0, 1, 2),
        drop_path_rate=0.1,
        norm_eval=True,  # two images per GPU are too few for the stem's BatchNorm
        init_cfg=dict(type='Pretrained', checkpoint='volo_d1_224')),
    neck=dict(in_channels=dims),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[*map_strides, 64, 128])),  # sides of 32 … 512 pixels
    # boxes of up to 224 pixels are pooled from stride 8, of up to 448 from stride 16
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=map_strides, finest_scale=112),
                  mask_roi_extractor=dict(featmap_strides=map_strides, finest_scale=112)))

# with the schedule's decay of 0.95 the outlookers learn at about half the rate of the last blocks
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
