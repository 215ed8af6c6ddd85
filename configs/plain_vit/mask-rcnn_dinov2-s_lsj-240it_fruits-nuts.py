"""DINOv2's ViT-S in a Mask R-CNN on a small custom data set: an example to copy, for a CPU or one GPU.

Change the folder, the files and the class names. This set is
https://github.com/Tony607/mmdetection_instance_segmentation_demo, split into two annotation files; searched for in
$FRUITS_NUTS_ROOT, else in $VITDET_DATA/fruits_nuts (default data/fruits_nuts).
"""

import os

_base_ = ['../_base_/models/mask-rcnn_sfp.py', '../_base_/datasets/coco_lsj.py', '../_base_/schedules/vitdet_100e.py',
          '../_base_/runtime.py']

data_root = os.environ.get('FRUITS_NUTS_ROOT', '{{$VITDET_DATA:data}}/fruits_nuts') + '/'
train_file, val_file = 'annotations/instances_train.json', 'annotations/instances_val.json'
metainfo = dict(classes=('date', 'fig', 'hazelnut'))
num_classes = len(metainfo['classes'])
image_size = 448  # 28 x 28 patches of 16 pixels
batch, max_iters, warmup, val_interval = 4, 240, 20, 80

model = dict(
    data_preprocessor=dict(pad_size_divisor=image_size),
    backbone=dict(
        type='TimmViTDet',
        model='vit_small_patch14_dinov2',
        patch_size=16,  # the kernel of 14 x 14 is resampled
        window_size=14,  # blocks 2, 5, 8, 11 are global
        frozen_stages=8,  # of 12 blocks; -1 trains all
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_s14')),
    neck=dict(in_channels=384),
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
    # fewer proposals and samples, to save time
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=300), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)))

jitter = dict(type='LargeScaleJitter', image_size=image_size, scale=(0.5, 1.5), resize_backend='cv2')
resize = dict(type='Resize', scale=(image_size, image_size), keep_ratio=True)
train_pipeline = [_base_.load_image, _base_.load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
common = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_dataloader = dict(batch_size=batch, num_workers=1,
                        dataset=dict(ann_file=train_file, pipeline=train_pipeline, **common))
val_dataloader = dict(num_workers=1, dataset=dict(ann_file=val_file, pipeline=test_pipeline, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8), optimizer=dict(lr=4e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01)]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=val_interval))
