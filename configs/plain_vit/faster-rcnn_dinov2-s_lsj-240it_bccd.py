"""DINOv2's ViT-S in a Faster R-CNN (boxes only) on blood cells (BCCD), for a CPU or one GPU."""

_base_ = ['../_base_/models/faster-rcnn_dinov2-s.py', '../_base_/datasets/bccd_small.py',
          '../_base_/schedules/small_data.py']

image_size, batch, max_iters = 448, 4, 240

model = dict(roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)))

jitter = dict(_base_.jitter, image_size=image_size)
resize = dict(_base_.resize, scale=(image_size, image_size))
train_pipeline = [_base_.load_image, _base_.load_boxes, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
train_dataloader = dict(batch_size=batch, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [_base_.warm_up, dict(_base_.cosine, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 3)
default_hooks = dict(checkpoint=dict(interval=max_iters // 3))
