"""ImageNet-1k at 224 x 224: RandAugment and random erasing in training, the central 7/8 in evaluation.

Data: https://image-net.org/download.php, in $VITDET_DATA/imagenet (default data/imagenet); layout in data/README.md.
"""

image_size = 224
data_root = '{{$VITDET_DATA:data}}/imagenet/'
batch_size = 128  # images per GPU; the recipes assume 8 GPUs
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of R, G and B
bgr_mean, bgr_std = mean[::-1], std[::-1]

model = dict(data_preprocessor=dict(type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=True, num_classes=1000))

load_image = dict(type='LoadImageFromFile')
random_crop = dict(type='RandomResizedCrop', scale=image_size, backend='pillow', interpolation='bicubic')
flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
# timm's rand-m9-mstd0.5-inc1
rand_augment = dict(
    type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9,
    magnitude_std=0.5, hparams=dict(pad_val=[round(value) for value in bgr_mean], interpolation='bicubic'))
erase = dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
             fill_color=bgr_mean, fill_std=bgr_std)
resize = dict(type='ResizeEdge', scale=image_size * 8 // 7, edge='short', backend='pillow', interpolation='bicubic')
center_crop = dict(type='CenterCrop', crop_size=image_size)
pack = dict(type='PackInputs')
train_pipeline = [load_image, random_crop, flip, rand_augment, erase, pack]
test_pipeline = [load_image, resize, center_crop, pack]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ImageNet', data_root=data_root, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageNet', data_root=data_root, split='val', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
