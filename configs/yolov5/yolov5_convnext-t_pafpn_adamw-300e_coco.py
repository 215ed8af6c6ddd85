"""ConvNeXt-T in YOLOv5, COCO, 300 epochs of mosaics, AdamW."""

_base_ = '../_base_/yolov5_300e_coco.py'

widths = [192, 384, 384]
model = dict(
    backbone=dict(
        type='ConvNeXtBackbone',
        arch='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_22k_1k_224')),
    neck=dict(type='YOLOv5PAFPN', in_channels=[192, 384, 768], out_channels=widths, num_csp_blocks=1),
    bbox_head=dict(in_channels=widths))
