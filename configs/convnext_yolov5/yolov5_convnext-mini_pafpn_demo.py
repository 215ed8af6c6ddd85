"""A small ConvNeXt in YOLOv5 for the CPU, trained from scratch on the demo set in minutes.

make demo ARGS=configs/convnext_yolov5/yolov5_convnext-mini_pafpn_demo.py
"""

_base_ = 'yolov5_convnext-t_pafpn_adamw-300e_coco.py'

data_root = 'data/demo/'
classes = ('ball', 'ring', 'star', 'brick', 'leaf')
img_size = 160  # the pictures' longer side
test_size = 224  # small objects are found better on enlarged pictures
batch, max_iters = 16, 2000  # over all ranks: 32,000 pictures, 16 times the set
widths = [64, 96, 128]

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXtBackbone', arch=dict(depths=(1, 1, 3, 1), dims=(32, 64, 96, 160)),
                  out_indices=(1, 2, 3), layer_scale_init_value=1.0),
    neck=dict(in_channels=[64, 96, 160], out_channels=widths),
    bbox_head=dict(num_classes=len(classes), in_channels=widths, img_size=img_size),
    test_cfg=dict(iou_threshold=0.45))

load_pipeline = [
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='LoadResizedImage', img_size=img_size, cache_mb=400),
]
train_pipeline = [dict(type='MosaicAffine', img_size=img_size, translate=0.1, scale=0.5), *_base_.train_pipeline[1:]]
test_pipeline = [_base_.test_pipeline[0], dict(type='LetterBox', img_size=test_size, upscale=True),
                 *_base_.test_pipeline[2:]]

loading = dict(num_workers=0, persistent_workers=False, pin_memory=False)  # a picture takes milliseconds
common = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=batch, **loading, dataset=dict(
    dataset=dict(ann_file='annotations/train.json', data_prefix=dict(img='train/'), pipeline=load_pipeline, **common),
    pipeline=train_pipeline))
val_dataloader = dict(batch_size=16, num_workers=0, persistent_workers=False, dataset=dict(
    img_size=test_size, batch_size=16,
    dataset=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/'), pipeline=test_pipeline, **common)))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=0, end=max_iters)]
custom_hooks = [
    dict(type='AutoAnchorHook', img_size=img_size),
    dict(type='BiasWarmupHook', iters=100, bias_lr=0.0, momentum=None),
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=5e-3, gamma=200, update_buffers=True, priority=49),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, save_best=None))
randomness = dict(seed=0)
