"""ConvNeXt-B, mosaics of which one in ten is mixed with another."""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

widths = [256, 512, 1024]
model = dict(
    backbone=dict(
        arch='base', drop_path_rate=0.3, init_cfg=dict(checkpoint='checkpoints/convnext_base_22k_1k_224.pth')),
    neck=dict(in_channels=widths, out_channels=widths, num_csp_blocks=2),
    bbox_head=dict(in_channels=widths))

# two data sets inside one another: the inner makes mosaics, the outer mixes two of them
mosaics = dict(
    type='MultiImageMixDataset',
    dataset=_base_.train_dataloader.dataset.dataset,
    pipeline=[dict(type='MosaicAffine', img_size=_base_.img_size, translate=0.1, scale=0.9)])
train_dataloader = dict(dataset=dict(
    dataset=dict(_delete_=True, **mosaics),
    pipeline=[dict(type='MosaicMixUp', prob=0.1), *_base_.train_pipeline[1:]]))
