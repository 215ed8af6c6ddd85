"""ViL-S, DINO on a simple feature pyramid of strides 8 to 64, COCO, 12 epochs: a proposal, not trained here."""

_base_ = '../_base_/dino_4scale_1x_coco.py'

model = dict(
    backbone=dict(
        type='VisionLSTM',
        arch='small',
        mask_padding=True,
        drop_path_rate=0.05,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='vil2_small')),
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=384, out_channels=_base_.width,
              scale_factors=(2.0, 1.0, 0.5), num_outs=_base_.num_levels))

# layer i of L = 24: learning rate x 0.8 ** (25 - i)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.8))
