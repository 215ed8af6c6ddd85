"""COCO boxes as DETR trains on them: sides of 480 to 800 pixels, half of the images cropped between two resizes.

Data: https://cocodataset.org/#download, in $VITDET_DATA/coco (default data/coco); layout in data/README.md.
"""

_base_ = 'mmdet::_base_/datasets/coco_detection.py'

data_root = '{{$VITDET_DATA:data}}/coco/'

_sides = [(side, 1333) for side in range(480, 801, 32)]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[
        [dict(type='RandomChoiceResize', scales=_sides, keep_ratio=True)],
        [dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
         dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=False),
         dict(type='RandomChoiceResize', scales=_sides, keep_ratio=True)]]),
    dict(type='PackDetInputs'),
]
# the schedules count iterations
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'), dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
