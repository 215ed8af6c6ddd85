"""ViTDet-B, Co-DINO on a simple feature pyramid of strides 8 to 64, COCO, 12 epochs: a proposal, not trained here."""

_base_ = '../_base_/co_dino_4scale_1x_coco.py'

model = dict(
    backbone=dict(
        type='ViTDet',
        arch='base',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mae_b')),
    # strides 8, 16, 32 and, subsampled, 64 from the only map of stride 16
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=768, out_channels=_base_.width,
              scale_factors=(2.0, 1.0, 0.5), num_outs=_base_.num_levels))

# layer i of L = 12: learning rate x 0.7 ** (13 - i)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='d2'))
