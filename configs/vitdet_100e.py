"""ViTDet, ViT-B, Mask R-CNN, COCO, 100 epochs of large-scale jitter (arXiv 2203.16527, table 5 and appendix A.2)."""

_base_ = ['_base_/models/mask-rcnn_sfp.py', '_base_/datasets/coco_lsj.py', '_base_/schedules/vitdet_100e.py',
          '_base_/runtime.py']

model = dict(
    data_preprocessor=dict(pad_size_divisor=_base_.image_size),
    backbone=dict(
        type='ViTDet',
        arch='base',
        img_size=_base_.image_size,
        patch_size=16,
        window_size=14,
        propagation='global',  # blocks 2, 5, 8, 11
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mae_b')),
    neck=dict(in_channels=768))

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
