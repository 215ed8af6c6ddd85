"""InternImage-T on ImageNet-1k, 300 epochs (arXiv 2211.05778, appendix; the official classification recipe)."""

_base_ = ['../_base_/datasets/imagenet_224.py', '../_base_/schedules/adamw_cosine_300e.py', '../_base_/runtime_cls.py']

lr = 5e-4 * _base_.batch / 512  # 1e-3

model = dict(
    type='ImageClassifier',
    backbone=dict(type='InternImage', arch='tiny', out_indices=(3,), drop_path_rate=0.1),
    head=dict(
        type='InternImageClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

resize = dict(_base_.resize, scale=_base_.image_size)
test_pipeline = [_base_.load_image, resize, _base_.center_crop, _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=lr), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=_base_.warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=_base_.warmup, end=_base_.epochs,
         T_max=_base_.epochs - _base_.warmup, eta_min_ratio=0.01, convert_to_iter_based=True),
]
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4, update_buffers=True)]
