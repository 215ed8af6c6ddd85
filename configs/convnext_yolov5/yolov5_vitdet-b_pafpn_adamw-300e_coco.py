"""Another backbone in the same detector: a plain ViT-B, whose one map the simple feature pyramid makes three of."""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

width = 256
model = dict(
    backbone=dict(
        _delete_=True,
        type='ViTDet',
        arch='base',
        img_size=_base_.img_size,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mae_pretrain_vit_base.pth')),
    # strides 8, 16, 32
    neck=[dict(type='SimpleFeaturePyramid', in_channels=768, out_channels=width, scale_factors=(2.0, 1.0, 0.5),
               num_outs=3),
          dict(type='YOLOv5PAFPN', in_channels=[width] * 3, num_csp_blocks=1)],
    bbox_head=dict(in_channels=[width] * 3))

# layer i of L = 12 learns at 0.7 ** (13 - i) of the rate; biases are not set apart here, so no warm-up of their own
optim_wrapper = dict(
    constructor='LayerWiseDecayConstructor', paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='plain'),
    optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup_iters),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=_base_.warmup_iters,
         end=_base_.max_iters)]
custom_hooks = [_base_.custom_hooks[0], _base_.custom_hooks[2]]
