"""COCO instance segmentation as mmdet trains on it: images of up to 1333 x 800 pixels, 2 images per GPU.

Data: https://cocodataset.org/#download, in $VITDET_DATA/coco (default data/coco); layout in data/README.md.
"""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'

data_root = '{{$VITDET_DATA:data}}/coco/'

# the schedules count iterations
train_dataloader = dict(sampler=dict(type='InfiniteSampler'), dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
