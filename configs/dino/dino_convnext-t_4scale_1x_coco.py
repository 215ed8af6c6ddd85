"""ConvNeXt-T, DINO, COCO, 12 epochs: a proposal, not trained here."""

_base_ = '../_base_/dino_4scale_1x_coco.py'

model = dict(
    backbone=dict(
        type='ConvNeXtBackbone',
        arch='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        layer_scale_init_value=1.0,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_1k_224_ema')),
    neck=dict(in_channels=[192, 384, 768]))

# layer i of L = 6: learning rate x 0.8 ** (7 - i)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.8))
