"""A small ConvNeXt as a classifier of own images, from scratch."""

_base_ = ['classifier.py', '../models/convnext_mini.py']

model = dict(
    backbone=dict(out_indices=(3,), out_norms=False, drop_path_rate=0.05,
                  # narrow layers learn faster from larger initial weights than ConvNeXt's 0.02
                  init_cfg=dict(type='Kaiming', layer=['Conv2d', 'Linear']), **_base_.convnext_mini),
    head=dict(type='LayerNormClsHead', in_channels=_base_.mini_dims[-1]))
