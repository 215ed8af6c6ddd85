"""DINOv2's ViT-S as a classifier of own images; the first 4 of 12 blocks are frozen."""

_base_ = 'classifier.py'

model = dict(
    backbone=dict(type='TimmViTDet', model='vit_small_patch14_dinov2', window_size=0, out_type='cls_avg',
                  frozen_stages=4, drop_path_rate=0.1, init_cfg=dict(type='Pretrained', checkpoint='dinov2_s14')),
    head=dict(type='LinearClsHead', in_channels=2 * 384))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=5e-4))
