"""DINO on two InternImage-H (CBNetV2). A config adds ``bbox_head.num_classes`` and the optimizer's rate."""

_base_ = 'dino_4scale.py'

decay, layers = 0.94, 6 + 6 + 32 + 6

model = dict(
    type='CBDetector',
    detector='DINO',
    assistant_weight=0.5,
    backbone=dict(
        type='CBNet',
        backbone=dict(type='InternImage', arch='huge', out_indices=(1, 2, 3), drop_path_rate=0.5, with_cp=True)),
    neck=dict(in_channels=[640, 1280, 2560]),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=1000)))

# layer i of L = 50 in both: learning rate x 0.94 ** (51 - i). OpenGVLab's code does not recognize the names of the
# composite, so there all layers learned at one rate. The sampling offsets of the transformer hardly move.
layer_rates = dict(layer_decay_rate=decay, custom_keys=dict(
    level_embed=dict(lr_mult=decay ** (layers + 1)), sampling_offsets=dict(lr_mult=1e-3, decay_mult=0.0)))
