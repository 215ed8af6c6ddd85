"""ViL-S in YOLOv5, COCO: a simple feature pyramid makes three maps of the backbone's last one."""

_base_ = 'yolov5_vitdet-b_pafpn_adamw-300e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionLSTM',
        arch='small',
        img_size=_base_.img_size,
        drop_path_rate=0.05,
        init_cfg=dict(type='Pretrained', checkpoint='vil2_small')),  # the official file
    neck=[dict(_base_.pyramid, in_channels=384), _base_.pafpn])

# layer i of L = 24: learning rate x 0.9 ** (25 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
