"""COCO boxes as YOLOv5 trains on them: mosaics, and validation in rectangles of similar pictures."""

img_size = 640
data_root = 'data/coco/'
batch_size, val_batch_size = 8, 16  # images a GPU; the recipes count on 8 GPUs

load_pipeline = [
    dict(type='LoadAnnotations', with_bbox=True),
    # with cache_mb=8000 (a worker) small sets stay in memory, decoded and resized
    dict(type='LoadResizedImage', img_size=img_size, cache_mb=0),
]
train_pipeline = [
    dict(type='MosaicAffine', img_size=img_size, translate=0.1, scale=0.5),
    dict(type='MultiplicativeHSV', hue=0.015, saturation=0.7, value=0.4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LetterBox', img_size=img_size, upscale=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                                          'letterbox_offset')),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='MultiImageMixDataset',
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            pipeline=load_pipeline),  # pictures without objects stay, as background
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=val_batch_size,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RectangleBatches',
        batch_size=val_batch_size,
        img_size=img_size,
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='annotations/instances_val2017.json',
            data_prefix=dict(img='val2017/'),
            test_mode=True,
            pipeline=test_pipeline)))
test_dataloader = val_dataloader

val_evaluator = dict(type='FastCocoMetric', ann_file=data_root + 'annotations/instances_val2017.json', metric='bbox')
test_evaluator = val_evaluator
