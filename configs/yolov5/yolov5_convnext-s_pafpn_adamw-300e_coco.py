"""ConvNeXt-S in YOLOv5, COCO: a deeper third stage."""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

model = dict(backbone=dict(
    arch='small', drop_path_rate=0.2, init_cfg=dict(checkpoint='convnext_small_22k_1k_224')))
