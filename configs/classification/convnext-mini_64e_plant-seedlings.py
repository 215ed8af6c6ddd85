"""A small ConvNeXt on a folder of classes, from scratch on a CPU: 64 ep x 45 it = 2,880 it x 16 pictures."""

_base_ = 'vit-tiny_50e_plant-seedlings.py'

epochs, warmup = 64, 5
dims = (32, 64, 96, 160)

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXtBackbone', arch=dict(depths=(1, 1, 3, 1), dims=dims), out_indices=(3,),
                  out_norms=False, layer_scale_init_value=1.0, drop_path_rate=0.05,
                  # layers this narrow learn sooner from larger weights than ConvNeXt's 0.02
                  init_cfg=dict(type='Kaiming', layer=['Conv2d', 'Linear'])),
    head=dict(in_channels=dims[-1]))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
