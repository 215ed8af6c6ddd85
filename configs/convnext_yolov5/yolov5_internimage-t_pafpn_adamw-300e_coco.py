"""Another backbone in the same detector: InternImage-T."""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

widths = [128, 256, 512]
model = dict(
    backbone=dict(
        _delete_=True,
        type='InternImage',
        arch='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/internimage_t_1k_224.pth')),
    neck=dict(in_channels=widths, out_channels=widths),
    bbox_head=dict(in_channels=widths))
