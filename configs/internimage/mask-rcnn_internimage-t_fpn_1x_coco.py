"""InternImage-T, Mask R-CNN, COCO, 12 epochs (arXiv 2211.05778, section 4.2)."""

_base_ = [
    '../_base_/models/mask-rcnn_fpn.py', '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_coco_1x.py', '../_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='InternImage',
        arch='tiny',
        layer_scale=1.0,  # the classification weights of T have none; 1.0 has no effect
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_t_1k_224')),
    neck=dict(in_channels=[64, 128, 256, 512]))

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
