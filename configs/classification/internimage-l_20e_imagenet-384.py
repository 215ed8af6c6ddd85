"""InternImage-L from ImageNet-22k's weights, fine-tuned on ImageNet-1k at 384 x 384 for 20 epochs."""

_base_ = 'internimage-t_300e_imagenet.py'

image_size = 384
epochs, warmup = 20, 2
lr = 2e-5 * _base_.batch / 512  # 4e-5

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.1, with_cp=True),
    head=dict(in_channels=1280, loss=dict(label_smooth_val=0.3)),
    train_cfg=dict(_delete_=True))  # no Mixup, no CutMix
# includes the head's convolution; the head's last layer is re-initialized
load_from = 'internimage_l_22k_192to384'

random_crop = dict(_base_.random_crop, scale=image_size)
resize = dict(_base_.resize, scale=image_size)
center_crop = dict(_base_.center_crop, crop_size=image_size)
train_pipeline = [_base_.load_image, random_crop, _base_.flip, _base_.rand_augment, _base_.pack]
test_pipeline = [_base_.load_image, resize, center_crop, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# layer i of L = 37: learning rate x 0.9 ** (38 - i)
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=0.9))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min=0.0,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
