"""ViL-S, Mask R-CNN with a simple feature pyramid, COCO, 100 epochs of large-scale jitter."""

_base_ = 'mask-rcnn_vil-t_sfp_lsj-100e_coco.py'

model = dict(
    backbone=dict(arch='small', drop_path_rate=0.05, with_cp=True,
                  init_cfg=dict(checkpoint='vil2_small')),
    neck=dict(in_channels=384))
