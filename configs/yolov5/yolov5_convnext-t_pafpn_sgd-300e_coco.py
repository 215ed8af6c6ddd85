"""ConvNeXt-T in YOLOv5, COCO, 300 epochs of mosaics, SGD: YOLOv5's own recipe."""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

optim_wrapper = dict(optimizer=dict(_delete_=True, **_base_.sgd))
custom_hooks = [_base_.auto_anchor, _base_.sgd_bias_warmup, _base_.average]
