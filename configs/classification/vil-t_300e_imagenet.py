"""ViL-T (version 2) on ImageNet-1k from scratch (arXiv 2406.04303, appendix): 3-Augment, mixup and cutmix.

All settings are the authors' except for the number of epochs and the precision: they train in bfloat16, here with
--amp bf16.
"""

_base_ = ['../_base_/datasets/imagenet_3aug_224.py', '../_base_/schedules/adamw_cosine_300e.py',
          '../_base_/runtime_cls.py']

warmup = 5
lr = 1e-3 * _base_.batch / 1024

model = dict(
    type='ImageClassifier',
    backbone=dict(type='VisionLSTM', arch='tiny', drop_path_rate=0.0, pooling='bilateral_flatten'),
    head=dict(type='VisionLSTMClsHead', num_classes=1000, in_channels=2 * 192),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

optim_wrapper = dict(optimizer=dict(lr=lr), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=_base_.epochs, T_max=_base_.epochs - warmup,
         eta_min=1e-6, convert_to_iter_based=True),
]
