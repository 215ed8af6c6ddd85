"""COCO boxes as YOLOv5 trains on them: mosaics in training, batches of similar shapes in validation.

Data: https://cocodataset.org/#download, in $VITDET_DATA/coco (default data/coco); layout in data/README.md.
"""

img_size = 640
data_root = '{{$VITDET_DATA:data}}/coco/'
train_file, val_file = 'annotations/instances_train2017.json', 'annotations/instances_val2017.json'
batch_size, val_batch_size = 8, 16  # images per GPU; the recipes assume 8 GPUs

load_boxes = dict(type='LoadAnnotations', with_bbox=True)
# cache_mb=8000 (per worker) keeps small data sets in memory, decoded and resized
load_resized = dict(type='LoadResizedImage', img_size=img_size, cache_mb=0)
mosaic = dict(type='MosaicAffine', img_size=img_size, translate=0.1, scale=0.5)
hsv = dict(type='MultiplicativeHSV', hue=0.015, saturation=0.7, value=0.4)
flip = dict(type='RandomFlip', prob=0.5)
pack_train = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape'))
load_image = dict(type='LoadImageFromFile')
letterbox = dict(type='LetterBox', img_size=img_size, upscale=True)
pack_test = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                                                  'letterbox_offset'))
load_pipeline = [load_boxes, load_resized]
train_pipeline = [mosaic, hsv, flip, pack_train]
test_pipeline = [load_image, letterbox, load_boxes, pack_test]

train_set = dict(
    type='CocoDataset',
    data_root=data_root,
    ann_file=train_file,
    data_prefix=dict(img='train2017/'),
    pipeline=load_pipeline)  # images without objects are kept, as background
val_set = dict(
    type='CocoDataset',
    data_root=data_root,
    ann_file=val_file,
    data_prefix=dict(img='val2017/'),
    test_mode=True,
    pipeline=test_pipeline)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='MultiImageMixDataset', dataset=train_set, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=val_batch_size,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RectangleBatches', batch_size=val_batch_size, img_size=img_size, dataset=val_set))
test_dataloader = val_dataloader

val_evaluator = dict(type='FastCocoMetric', ann_file=data_root + val_file, metric='bbox')
test_evaluator = val_evaluator
