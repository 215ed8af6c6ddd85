"""COCO instance segmentation with large-scale jitter (arXiv 2012.07177), as detectron2's ViTDet trains on it."""

image_size = 1024
data_root = 'data/coco/'
batch_size = 8  # images a GPU; the recipes count on 8 GPUs

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # polygons stay polygons: faster to jitter than bitmaps. Data with RLE masks of single objects wants poly2mask=True.
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False),
    # flip, resize so that the image fits into 0.1 to 2 times image_size, crop image_size: 'pillow' filters as the
    # reference does, 'cv2' is faster
    dict(type='LargeScaleJitter', image_size=image_size, scale=(0.1, 2.0), resize_backend='pillow'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(image_size, image_size), keep_ratio=True, backend='pillow'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='FastCocoMetric', ann_file=data_root + 'annotations/instances_val2017.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
