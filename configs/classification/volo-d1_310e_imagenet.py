"""VOLO-D1 on ImageNet-1k: 300 + 10 epochs with mixed tokens and a loss on every token (arXiv 2106.13112, section 4.1).

Here every token has the image's label; the authors read soft labels from files (arXiv 2104.10858), as
volo-d1_310e_imagenet-token-labels.py does.
"""

_base_ = ['../_base_/datasets/imagenet_224.py', '../_base_/schedules/adamw_cosine_300e.py', '../_base_/runtime_cls.py']

epochs, warmup, cooldown = 300, 20, 10
lr, least_lr = 1.6e-3, 1e-5

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='MixTokenDataPreprocessor'),
    backbone=dict(type='VOLO', arch='d1', img_size=_base_.image_size, drop_path_rate=0.1),
    head=dict(type='VOLOClsHead', num_classes=1000, in_channels=384, num_heads=12, mlp_ratio=3, dense=True))

# the short side is resized to 224 / 0.96 = 233 pixels
resize = dict(_base_.resize, scale=round(_base_.image_size / 0.96))
test_pipeline = [_base_.load_image, resize, _base_.center_crop, _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min=least_lr,
         convert_to_iter_based=True),
    dict(type='ConstantLR', factor=1.0, by_epoch=True, begin=epochs, end=epochs + cooldown),
]
train_cfg = dict(max_epochs=epochs + cooldown)
