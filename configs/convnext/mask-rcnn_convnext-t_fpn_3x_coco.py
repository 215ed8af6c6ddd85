"""Mask R-CNN with ConvNeXt-T, COCO, 36 epochs, multi-scale crops (arXiv 2201.03545, section 4 and appendix A.3)."""

_base_ = ['../_base_/models/mask-rcnn_fpn.py', '../_base_/datasets/coco_multiscale.py',
          '../_base_/schedules/adamw_coco_3x.py', '../_base_/runtime.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXtBackbone',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_1k_224_ema')),
    neck=dict(in_channels=[96, 192, 384, 768]))

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
