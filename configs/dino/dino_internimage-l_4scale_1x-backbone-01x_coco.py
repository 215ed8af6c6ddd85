"""InternImage-L, DINO, COCO, 12 epochs, the backbone at a tenth of the rate (OpenGVLab's ``0.1x_backbone_lr``)."""

_base_ = 'dino_internimage-l_4scale_1x_coco.py'

# one rate for all layers of the backbone; weight decay applies to all parameters
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=1.0, backbone_lr_mult=0.1, no_decay='none'))
