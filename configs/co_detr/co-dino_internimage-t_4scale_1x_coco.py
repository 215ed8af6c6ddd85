"""InternImage-T, Co-DINO, COCO, 12 epochs: a proposal, not trained here."""

_base_ = '../_base_/co_dino_4scale_1x_coco.py'

decay, layers = 0.9, 4 + 4 + 18 + 4

model = dict(
    backbone=dict(
        type='InternImage',
        arch='tiny',
        out_indices=(1, 2, 3),
        layer_scale=1.0,  # the classification weights of T have none; 1.0 has no effect
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_t_1k_224')),
    neck=dict(in_channels=[128, 256, 512]))

# layer i of L = 30: learning rate x 0.9 ** (31 - i). The level embedding learns like the stem, i = 0
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=decay, custom_keys=dict(
    level_embed=dict(lr_mult=decay ** (layers + 1)), sampling_offsets=dict(decay_mult=0.0))))
