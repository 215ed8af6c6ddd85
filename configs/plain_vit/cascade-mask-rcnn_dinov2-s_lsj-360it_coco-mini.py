"""DINOv2's ViT-S in a Cascade Mask R-CNN on a small part of COCO with all 80 classes, for a CPU or one GPU."""

_base_ = ['../_base_/models/cascade-mask-rcnn_dinov2-s.py', '../_base_/datasets/coco_small.py',
          '../_base_/datasets/coco_mini.py', '../_base_/schedules/small_data.py']

image_size, batch, max_iters = 448, 4, 360
data_root = _base_.coco_mini_root

jitter = dict(_base_.jitter, image_size=image_size)
resize = dict(_base_.resize, scale=(image_size, image_size))
train_pipeline = [_base_.load_image, _base_.load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
train_dataloader = dict(batch_size=batch, dataset=dict(
    data_root=data_root, data_prefix=dict(img='train2017/'), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img='val2017/'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + _base_.val_file)
test_evaluator = val_evaluator

auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [_base_.warm_up, dict(_base_.cosine, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 3)
default_hooks = dict(checkpoint=dict(interval=max_iters // 3))
