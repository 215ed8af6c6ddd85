"""Co-DINO on COCO, 12 epochs: all but the backbone, the neck's ``in_channels`` and the layer-wise learning rates."""

_base_ = ['models/co_dino.py', 'datasets/coco_detr.py', 'schedules/dino_coco_1x.py', 'runtime.py']

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
