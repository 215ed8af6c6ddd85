"""InternImage-T in YOLOv5, COCO."""

_base_ = '../_base_/yolov5_300e_coco.py'

widths = [128, 256, 512]
model = dict(
    backbone=dict(
        type='InternImage',
        arch='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_t_1k_224')),
    neck=dict(type='YOLOv5PAFPN', in_channels=widths, out_channels=widths, num_csp_blocks=1),
    bbox_head=dict(in_channels=widths))
