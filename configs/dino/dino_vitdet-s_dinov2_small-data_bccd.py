"""DINOv2's ViT-S in a small DINO on blood cells (BCCD), for a CPU or one GPU."""

_base_ = ['../_base_/models/dino_dinov2-s.py', '../_base_/datasets/bccd_small.py',
          '../_base_/schedules/small_data.py']

# a DETR learns from many steps: two small images in each, 20 x 20 patches in 2 x 2 windows
image_size, batch, max_iters, warmup = 320, 2, 820, 50

model = dict(backbone=dict(window_size=10), bbox_head=dict(num_classes=_base_.num_classes))

jitter = dict(_base_.jitter, image_size=image_size, scale=(0.75, 1.25))
resize = dict(_base_.resize, scale=(image_size, image_size))
train_pipeline = [_base_.load_image, _base_.load_boxes, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
train_dataloader = dict(batch_size=batch, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=8e-4, weight_decay=1e-4), clip_grad=dict(max_norm=0.1),
                     paramwise_cfg=dict(backbone_lr_mult=0.05))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [dict(_base_.warm_up, end=warmup), dict(_base_.cosine, begin=warmup, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 4)
default_hooks = dict(checkpoint=dict(interval=max_iters // 4))
randomness = dict(seed=0)
