"""InternImage-L, DINO, COCO, 12 epochs, layer-wise learning rates (arXiv 2211.05778, OpenGVLab's ``layer_wise_lr``)."""

_base_ = '../_base_/dino_4scale_1x_coco.py'

decay, layers = 0.9, 5 + 5 + 22 + 5

model = dict(
    backbone=dict(
        type='InternImage',
        arch='large',
        out_indices=(1, 2, 3),
        layer_scale=1.0,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_l_22k_192to384')),
    neck=dict(in_channels=[320, 640, 1280]))

# layer i of L = 37: learning rate x 0.9 ** (38 - i). The level embedding learns like the stem, i = 0
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=decay, custom_keys=dict(
    level_embed=dict(lr_mult=decay ** (layers + 1)), sampling_offsets=dict(decay_mult=0.0))))
