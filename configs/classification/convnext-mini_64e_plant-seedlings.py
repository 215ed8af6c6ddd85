"""A small ConvNeXt on a folder of classes, from scratch on a CPU: 64 ep x 45 it = 2,880 it x 16 images."""

_base_ = ['../_base_/plant-seedlings_50e.py', '../_base_/models/convnext_mini.py']

epochs, warmup = 64, 5

model = dict(
    backbone=dict(out_indices=(3,), out_norms=False, drop_path_rate=0.05,
                  # narrow layers learn faster from larger initial weights than ConvNeXt's 0.02
                  init_cfg=dict(type='Kaiming', layer=['Conv2d', 'Linear']), **_base_.convnext_mini),
    head=dict(type='LayerNormClsHead', in_channels=_base_.mini_dims[-1]))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
