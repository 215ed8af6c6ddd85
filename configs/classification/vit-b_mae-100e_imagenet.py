"""A plain ViT-B from MAE's weights, fine-tuned on ImageNet-1k for 100 epochs (arXiv 2111.06377, appendix A.1).

The detectors' backbone with global attention and without relative positions. It has no class token: MAE's fine-tuning
keeps one but does not use its output, so averaging the last map is the same recipe except for that token.
"""

_base_ = ['../_base_/datasets/imagenet_224.py', '../_base_/schedules/adamw_cosine_300e.py', '../_base_/runtime_cls.py']

depth = 12
epochs, warmup = 100, 5
lr = 5e-4 * _base_.batch / 256  # 2e-3

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ViTDet',
        arch='base',
        img_size=_base_.image_size,
        patch_size=16,
        propagation='global',
        propagation_indexes=list(range(depth)),
        use_rel_pos=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mae_b')),
    head=dict(
        type='LayerNormClsHead',
        num_classes=1000,
        in_channels=768,
        init_std=2e-5,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

# layer i of L = 12: learning rate x 0.65 ** (13 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65), optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup,
         eta_min_ratio=1e-6 / lr, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
