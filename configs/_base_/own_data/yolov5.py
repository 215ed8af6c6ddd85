"""What the one-stage detectors that ``vitdet init`` offers have in common: YOLOv5's head, mosaics, a cosine."""

_base_ = ['../models/yolov5_pafpn.py', '../datasets/coco_yolov5.py', '../schedules/small_data.py']

hsv = dict(_base_.hsv, saturation=0.4, value=0.3)
auto_anchor = dict(type='AutoAnchorHook', img_size=_base_.img_size)
averaging = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=5e-3, gamma=200, update_buffers=True,
                  priority=49)]

loading = dict(num_workers=1, pin_memory=False)
train_dataloader = dict(**loading, dataset=dict(dataset=dict(data_prefix=dict(img=''))))
val_dataloader = dict(**loading, batch_size=8, dataset=dict(batch_size=8, dataset=dict(data_prefix=dict(img=''))))
test_dataloader = val_dataloader

param_scheduler = [_base_.warm_up, dict(type='CosineAnnealingLR', by_epoch=False, begin=_base_.warmup,
                                        eta_min_ratio=0.01)]
