"""A small ViT on a folder of classes, from scratch on a CPU: 50 ep x 45 it = 2,250 it x 16 pictures."""

_base_ = ['../_base_/datasets/plant_seedlings.py', '../_base_/schedules/adamw_cosine_300e.py',
          '../_base_/runtime_cls.py']

epochs, warmup = 50, 5
dim, depth = 128, 6

model = dict(
    type='ImageClassifier',
    # 8 x 8 tokens of 16 pixels
    backbone=dict(type='ViTDet', arch=dict(embed_dim=dim, depth=depth, num_heads=4), img_size=_base_.image_size,
                  patch_size=16, propagation='global', propagation_indexes=list(range(depth)), use_rel_pos=True,
                  drop_path_rate=0.05, pretrain_img_size=_base_.image_size, pretrain_use_cls_token=False,
                  # layers this narrow learn sooner from larger weights than a ViT's 0.02
                  init_cfg=dict(type='Xavier', distribution='uniform', layer='Linear')),
    head=dict(type='LayerNormClsHead', num_classes=len(_base_.classes), in_channels=dim,
              loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))

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
