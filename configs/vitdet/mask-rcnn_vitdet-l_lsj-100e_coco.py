"""ViTDet-L, Mask R-CNN, COCO, 100 epochs."""

_base_ = ['../vitdet_100e.py', '../_base_/models/vitdet_sizes.py']

model = dict(backbone=dict(drop_path_rate=0.4, **_base_.vit_large), neck=dict(in_channels=_base_.large_dim))

# layer i of L = 24: learning rate x 0.8 ** (25 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
