"""The small ViTDet on a custom data set in COCO format with three classes: an example to copy.

Change the folder, the files and the class names, in the order of the annotation file. This set is
https://github.com/Tony607/mmdetection_instance_segmentation_demo, split into two annotation files; searched for in
$FRUITS_NUTS_ROOT, else in $VITDET_DATA/fruits_nuts (default data/fruits_nuts).
"""

import os

_base_ = 'mask-rcnn_vitdet-tiny_lsj-1500it_coco-mini.py'

data_root = os.environ.get('FRUITS_NUTS_ROOT', '{{$VITDET_DATA:data}}/fruits_nuts') + '/'
train_file, val_file = 'annotations/instances_train.json', 'annotations/instances_val.json'
metainfo = dict(classes=('date', 'fig', 'hazelnut'))
num_classes = len(metainfo['classes'])
max_iters, warmup = 500, 50  # 500 it x 4 images = 154 times the 13 images

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

common = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_dataloader = dict(dataset=dict(ann_file=train_file, **common))
val_dataloader = dict(dataset=dict(ann_file=val_file, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
