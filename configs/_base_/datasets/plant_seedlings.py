"""A folder of classes, <root>/{train,val}/<class>/<image>: 12 species of plant seedlings, small images.

Data: Aarhus University's plant seedlings (arXiv 1711.05458) or Kaggle's copy of them, sorted into train/ and val/.
Searched for in $PLANT_SEEDLINGS_ROOT, else in $VITDET_DATA/plant_seedlings (default data/plant_seedlings). The classes
are the names of the folders, sorted; labels are numbered in that order.
"""

import os

image_size = 128
data_root = os.environ.get('PLANT_SEEDLINGS_ROOT', '{{$VITDET_DATA:data}}/plant_seedlings') + '/'
classes = ('Black-grass', 'Charlock', 'Cleavers', 'Common Chickweed', 'Common wheat', 'Fat Hen', 'Loose Silky-bent',
           'Maize', 'Scentless Mayweed', 'Shepherds Purse', 'Small-flowered Cranesbill', 'Sugar beet')
batch_size = 16  # few images: twice as many steps as with 32, in the same time
suffixes = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
mean, std = [83.8, 73.8, 52.8], [26.6, 27.5, 31.9]  # of R, G and B, from vitdet mean-std

model = dict(data_preprocessor=dict(type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=True,
                                    num_classes=len(classes)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.4, 1.0), interpolation='bicubic'),
    # the plants are photographed from above
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, backend='cv2'),
    dict(type='RandomErasing', erase_prob=0.25, mode='const', fill_color=mean[::-1]),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=image_size, edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]

common = dict(type='CustomDataset', data_root=data_root, extensions=suffixes, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data_prefix='train', pipeline=train_pipeline, **common))
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix='val', test_mode=True, pipeline=test_pipeline, **common))
test_dataloader = val_dataloader

val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='ClassMeans', items=['f1-score'])]
test_evaluator = val_evaluator
