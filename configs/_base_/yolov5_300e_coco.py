"""YOLOv5 on COCO, 300 epochs of mosaics with AdamW: everything but the backbone and its widths."""

_base_ = ['models/yolov5_pafpn.py', 'datasets/coco_yolov5.py', 'schedules/yolov5_300e.py', 'runtime.py']

model = dict(bbox_head=dict(img_size=_base_.img_size))
auto_anchor = dict(type='AutoAnchorHook', img_size=_base_.img_size)
custom_hooks = [auto_anchor, _base_.bias_warmup, _base_.average]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.val_interval))
