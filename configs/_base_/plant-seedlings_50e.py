"""Small classifiers of plant seedlings, from scratch on a CPU: everything but the backbone and the head's widths.

50 ep x 45 it = 2,250 it x 16 images.
"""

_base_ = ['datasets/plant_seedlings.py', 'schedules/adamw_cosine_300e.py', 'runtime_cls.py']

epochs, warmup = 50, 5

label_smoothing = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
model = dict(type='ImageClassifier', head=dict(num_classes=len(_base_.classes), loss=label_smoothing))

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=_base_.batch_size)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=10)
# weights averaged over the last tenth of the training so far
custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=1e-4, gamma=10)]
default_hooks = dict(logger=dict(interval=45), checkpoint=dict(interval=10))
