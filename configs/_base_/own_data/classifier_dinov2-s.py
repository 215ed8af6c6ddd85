"""DINOv2's ViT-S as a classifier of own images; the first 4 of 12 blocks are frozen."""

_base_ = 'classifier.py'

model = dict(
    backbone=dict(type='TimmViTDet', model='vit_small_patch14_dinov2', window_size=0, out_type='cls_avg',
                  frozen_stages=4, init_cfg=dict(type='Pretrained', checkpoint='dinov2_s14')),
    head=dict(type='LinearClsHead', in_channels=2 * 384))
# the new layer learns 20 times as fast as the last block; no drop path, which disturbs the features that it reads
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75, backbone_lr_mult=0.05), optimizer=dict(lr=1e-3))
