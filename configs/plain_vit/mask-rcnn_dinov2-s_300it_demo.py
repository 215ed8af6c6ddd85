"""DINOv2's ViT-S in a Mask R-CNN on the demo set: `vitdet demo --weights dinov2_s14`."""

_base_ = ['../_base_/models/mask-rcnn_dinov2-s.py', '../_base_/datasets/demo_lsj.py',
          '../_base_/schedules/small_data.py']

image_size, batch_size, max_iters = 224, 8, 300  # side of the training crops; batch of all ranks together

num_classes = len(_base_.demo_classes)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
    test_cfg=dict(rcnn=dict(score_thr=0.01)))

# scale 1.0 fits the longer side of 160 pixels into image_size: 1.6 to 2.4 times the original size
jitter = dict(_base_.jitter, image_size=image_size)
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
resize = dict(type='Resize', scale_factor=2.4)  # the largest size in training
train_pipeline = [_base_.load_image, load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, load_annotations, _base_.pack_test]
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=batch_size)
param_scheduler = [_base_.warm_up, dict(_base_.cosine, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters, save_best=None))
randomness = dict(seed=0)
