"""ViTDet-H, Mask R-CNN, LVIS, 100 epochs."""

_base_ = ['mask-rcnn_vitdet-b_lsj-100e_lvis.py', '../_base_/models/vitdet_sizes.py']

model = dict(backbone=dict(drop_path_rate=0.4, **_base_.vit_huge), neck=dict(in_channels=_base_.huge_dim))

# layer i of L = 32: learning rate x 0.9 ** (33 - i); half the rate of B and L, weight decay on all parameters
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=0.9, no_decay='none'))
