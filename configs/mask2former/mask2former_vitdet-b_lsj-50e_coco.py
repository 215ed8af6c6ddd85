"""ViTDet-B, Mask2Former on a simple feature pyramid, COCO instances, 50 epochs: a proposal, not trained here."""

_base_ = 'mask2former_internimage-t_lsj-50e_coco.py'

width = 256

model = dict(
    backbone=dict(
        _delete_=True,
        type='ViTDet',
        arch='base',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mae_b')),
    # strides 4, 8, 16, 32 from the only map of stride 16
    neck=dict(type='SimpleFeaturePyramid', in_channels=768, out_channels=width, num_outs=4),
    panoptic_head=dict(in_channels=[width] * 4))

# layer i of L = 12: learning rate x 0.7 ** (13 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7, backbone_lr_mult=1.0))
