"""VOLO-D1 in YOLOv5, COCO: the outlookers give the finest of the three maps."""

_base_ = 'yolov5_vitdet-b_pafpn_adamw-300e_coco.py'

widths = [192, 384, 384]
model = dict(
    backbone=dict(
        _delete_=True,
        type='VOLO',
        arch='d1',
        img_size=_base_.img_size,
        out_indices=(0, 1, 2),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='volo_d1_224')),
    neck=dict(_delete_=True, type='YOLOv5PAFPN', in_channels=widths, num_csp_blocks=1),
    bbox_head=dict(in_channels=widths))

# the outlookers learn at about half the rate of the last blocks
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95))
