"""Another backbone in the same detector: ViL-S, whose one map the simple feature pyramid makes three of."""

_base_ = 'yolov5_vitdet-b_pafpn_adamw-300e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionLSTM',
        arch='small',
        img_size=_base_.img_size,
        drop_path_rate=0.05,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vil2-small.th')),  # the official file
    neck=_base_.model.neck)
model['neck'][0].update(in_channels=384)

# layer i of L = 24 learns at 0.9 ** (25 - i) of the rate
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
