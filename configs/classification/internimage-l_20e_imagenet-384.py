"""InternImage-L from ImageNet-22k's weights, fine-tuned on ImageNet-1k at 384 x 384 for 20 epochs."""

_base_ = 'internimage-t_300e_imagenet.py'

image_size = 384
epochs, warmup = 20, 2
lr = 2e-5 * _base_.batch / 512

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.1, with_cp=True),
    head=dict(in_channels=1280, loss=dict(label_smooth_val=0.3)),
    train_cfg=dict(_delete_=True))  # no Mixup, no CutMix
load_from = 'checkpoints/internimage_l_22k_192to384.pth'  # the head's convolution too; the last layer is drawn anew

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=image_size, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9,
         magnitude_std=0.5, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=image_size, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# layer i of L = 37 learns at 0.9 ** (38 - i) of the rate
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=0.9))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min=0.0,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
