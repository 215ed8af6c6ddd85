"""ConvNeXt-B in YOLOv5, COCO; one mosaic in ten is mixed with another."""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

widths = [256, 512, 1024]
model = dict(
    backbone=dict(
        arch='base', drop_path_rate=0.3, init_cfg=dict(checkpoint='convnext_base_22k_1k_224')),
    neck=dict(in_channels=widths, out_channels=widths, num_csp_blocks=2),
    bbox_head=dict(in_channels=widths))

# two nested data sets: the inner one makes mosaics, the outer one mixes two of them
mosaic = dict(_base_.mosaic, scale=0.9)
mosaics = dict(type='MultiImageMixDataset', dataset=_base_.train_set, pipeline=[mosaic])
mix = dict(type='MosaicMixUp', prob=0.1)
train_dataloader = dict(dataset=dict(
    dataset=dict(_delete_=True, **mosaics), pipeline=[mix, _base_.hsv, _base_.flip, _base_.pack_train]))
