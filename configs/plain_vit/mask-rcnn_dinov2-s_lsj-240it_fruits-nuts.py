"""DINOv2's ViT-S in a Mask R-CNN on a small custom data set: an example to copy, for a CPU or one GPU.

Change the folder, the files and the class names. This set is
https://github.com/Tony607/mmdetection_instance_segmentation_demo, split into two annotation files; searched for in
$FRUITS_NUTS_ROOT, else in $VITDET_DATA/fruits_nuts (default data/fruits_nuts).
"""

import os

_base_ = ['../_base_/models/mask-rcnn_dinov2-s.py', '../_base_/datasets/coco_small.py',
          '../_base_/schedules/small_data.py']

image_size, batch, max_iters = 448, 4, 240
data_root = os.environ.get('FRUITS_NUTS_ROOT', '{{$VITDET_DATA:data}}/fruits_nuts') + '/'
train_file, val_file = 'annotations/instances_train.json', 'annotations/instances_val.json'
metainfo = dict(classes=('date', 'fig', 'hazelnut'))

num_classes = len(metainfo['classes'])
model = dict(roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

jitter = dict(_base_.jitter, image_size=image_size)
resize = dict(_base_.resize, scale=(image_size, image_size))
train_pipeline = [_base_.load_image, _base_.load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
common = dict(data_root=data_root, metainfo=metainfo)  # images in images/
train_dataloader = dict(batch_size=batch, dataset=dict(ann_file=train_file, pipeline=train_pipeline, **common))
val_dataloader = dict(dataset=dict(ann_file=val_file, pipeline=test_pipeline, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator

auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [_base_.warm_up, dict(_base_.cosine, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 3)
default_hooks = dict(checkpoint=dict(interval=max_iters // 3))
