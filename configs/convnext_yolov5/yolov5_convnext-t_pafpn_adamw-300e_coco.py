"""The same with AdamW, which suits ConvNeXt better."""

_base_ = 'yolov5_convnext-t_pafpn_sgd-300e_coco.py'

optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05))
custom_hooks = [
    dict(type='AutoAnchorHook', img_size=_base_.img_size),
    dict(type='BiasWarmupHook', iters=_base_.warmup_iters, bias_lr=0.0, momentum=None),
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, gamma=2000, update_buffers=True, priority=49),
]
