"""Classifiers of plant seedlings from DINOv2's ViT-S/14: data, augmentation and model."""

_base_ = ['datasets/plant_seedlings.py', 'schedules/adamw_cosine_300e.py', 'runtime_cls.py']

image_size = 196  # 14 x 14 patches of 14 pixels
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's, as in the pre-training

label_smoothing = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=mean, std=std),
    backbone=dict(type='TimmViTDet', model='vit_small_patch14_dinov2', window_size=0, out_type='cls_avg',
                  init_cfg=dict(type='Pretrained', checkpoint='dinov2_s14')),
    head=dict(type='VectorClsHead', num_classes=len(_base_.classes), in_channels=2 * 384, loss=label_smoothing))

load_image = dict(type='LoadImageFromFile')
# the plants are photographed from above
flip = dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal'])
jitter = dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, backend='cv2')
pack = dict(type='PackInputs')
train_pipeline = [
    load_image,
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.4, 1.0), interpolation='bicubic'),
    flip,
    jitter,
    pack,
]
test_pipeline = [
    load_image,
    dict(type='ResizeEdge', scale=image_size, edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=_base_.batch_size)
