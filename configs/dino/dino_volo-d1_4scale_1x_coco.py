"""VOLO-D1, DINO on its maps of strides 8, 16 and 32, COCO, 12 epochs: a proposal, not trained here."""

_base_ = '../_base_/dino_4scale_1x_coco.py'

model = dict(
    backbone=dict(
        type='VOLO',
        arch='d1',
        out_indices=(0, 1, 2),
        drop_path_rate=0.1,
        norm_eval=True,  # two images per GPU are too few for the stem's BatchNorm
        init_cfg=dict(type='Pretrained', checkpoint='volo_d1_224')),
    neck=dict(in_channels=[192, 384, 384]))

# layer i of L: learning rate x 0.95 ** (L + 1 - i)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.95))
