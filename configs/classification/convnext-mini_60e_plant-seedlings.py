"""A small ConvNeXt on a folder of classes, from scratch on a CPU; data and schedule of the small ViT beside it."""

_base_ = 'vit-tiny_60e_plant-seedlings.py'

dims = (32, 64, 96, 160)
model = dict(
    backbone=dict(_delete_=True, type='ConvNeXtBackbone', arch=dict(depths=(1, 1, 3, 1), dims=dims), out_indices=(3,),
                  out_norms=False, layer_scale_init_value=1.0, drop_path_rate=0.05),
    head=dict(in_channels=dims[-1]))
