"""ViT-B in YOLOv5, COCO: a simple feature pyramid makes three maps of the backbone's last one."""

_base_ = '../_base_/yolov5_300e_coco.py'

width = 256
pyramid = dict(type='SimpleFeaturePyramid', in_channels=768, out_channels=width, scale_factors=(2.0, 1.0, 0.5),
               num_outs=3)  # strides 8, 16, 32
pafpn = dict(type='YOLOv5PAFPN', in_channels=[width] * 3, num_csp_blocks=1)
model = dict(
    backbone=dict(
        type='ViTDet',
        arch='base',
        img_size=_base_.img_size,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mae_b')),
    neck=[pyramid, pafpn],
    bbox_head=dict(in_channels=[width] * 3))

# layer i of L = 12: learning rate x 0.7 ** (13 - i); biases have no separate group, so they have no warm-up
optim_wrapper = dict(
    constructor='LayerWiseDecayConstructor', paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='plain'),
    optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup_iters),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=_base_.warmup_iters,
         end=_base_.max_iters)]
custom_hooks = [_base_.auto_anchor, _base_.average]
