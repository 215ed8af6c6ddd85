"""COCO instance segmentation with large-scale jitter (arXiv 2012.07177), as detectron2's ViTDet trains on it.

Data: https://cocodataset.org/#download, in $VITDET_DATA/coco (default data/coco); layout in data/README.md.
"""

image_size = 1024
data_root = '{{$VITDET_DATA:data}}/coco/'
train_file, val_file = 'annotations/instances_train2017.json', 'annotations/instances_val2017.json'
batch_size = 8  # images per GPU; the recipes assume 8 GPUs

load_image = dict(type='LoadImageFromFile')
# Polygons are not rasterized: faster to jitter than bitmaps. RLE of single objects becomes polygons.
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False)
# Flip, resize to 0.1 to 2 times the size that fits into image_size, crop to image_size. The reference resizes with
# pillow; cv2 is faster.
jitter = dict(type='LargeScaleJitter', image_size=image_size, scale=(0.1, 2.0), resize_backend='pillow')
resize = dict(type='Resize', scale=(image_size, image_size), keep_ratio=True, backend='pillow')
pack_train = dict(type='PackDetInputs')
pack_test = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
train_pipeline = [load_image, load_annotations, jitter, pack_train]
test_pipeline = [load_image, resize, pack_test]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file=train_file,
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
        ann_file=val_file,
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='FastCocoMetric', ann_file=data_root + val_file, metric=['bbox', 'segm'])
test_evaluator = val_evaluator
