"""A small ConvNeXt in YOLOv5 for the CPU, trained from scratch on the demo set in minutes.

vitdet demo yolov5_convnext-mini_pafpn_demo
"""

_base_ = ['../_base_/yolov5_300e_coco.py', '../_base_/datasets/demo_set.py', '../_base_/models/convnext_mini.py']

data_root = _base_.demo_root
img_size = _base_.demo_side
test_size = 224  # small objects are found better in enlarged images
batch, max_iters = 16, 2000  # 2,000 it x 16 images, all ranks together: 80 times the 400 images
widths = [64, 96, 128]
num_classes = len(_base_.demo_classes)

model = dict(
    backbone=dict(out_indices=(1, 2, 3), **_base_.convnext_mini),
    neck=dict(type='YOLOv5PAFPN', in_channels=_base_.mini_dims[1:], out_channels=widths, num_csp_blocks=1),
    bbox_head=dict(num_classes=num_classes, in_channels=widths, img_size=img_size),
    test_cfg=dict(iou_threshold=0.45))

load_resized = dict(_base_.load_resized, img_size=img_size, cache_mb=400)
mosaic = dict(_base_.mosaic, img_size=img_size)
letterbox = dict(_base_.letterbox, img_size=test_size)
load_pipeline = [_base_.load_boxes, load_resized]
train_pipeline = [mosaic, _base_.hsv, _base_.flip, _base_.pack_train]
test_pipeline = [_base_.load_image, letterbox, _base_.load_boxes, _base_.pack_test]
loading = dict(num_workers=0, persistent_workers=False)  # loading an image takes milliseconds
train_dataloader = dict(batch_size=batch, pin_memory=False, **loading, dataset=dict(
    dataset=dict(pipeline=load_pipeline, **_base_.demo_train), pipeline=train_pipeline))
val_dataloader = dict(**loading, dataset=dict(
    img_size=test_size, dataset=dict(pipeline=test_pipeline, **_base_.demo_val)))
test_dataloader = val_dataloader
val_evaluator = _base_.demo_evaluator
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=0, end=max_iters)]
auto_anchor = dict(_base_.auto_anchor, img_size=img_size)
custom_hooks = [auto_anchor, _base_.short_bias_warmup, _base_.short_average]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, save_best=None))
randomness = dict(seed=0)
