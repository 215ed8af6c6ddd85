"""ViTDet-L, DINO on a simple feature pyramid, COCO, 12 epochs: a proposal, not trained here."""

_base_ = 'dino_vitdet-b_4scale_1x_coco.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.4, with_cp=True, init_cfg=dict(checkpoint='mae_l')),
    neck=dict(in_channels=1024))

# layer i of L = 24: learning rate x 0.8 ** (25 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
