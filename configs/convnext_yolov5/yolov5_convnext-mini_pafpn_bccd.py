"""The small ConvNeXt in YOLOv5 on a set of one's own: blood cells (BCCD), whose annotations come as VOC's XML.

Copy it and write the set's folder and files, and its class names in the order of the annotation file. The json files
are made by tools/dataset/convert.py, see the README beside this file; sets in YOLO's format likewise.
"""

_base_ = 'yolov5_convnext-mini_pafpn_demo.py'

data_root = '{{$BCCD_ROOT:data/bccd}}/'
train_file, val_file = 'annotations/trainval.json', 'annotations/test.json'
metainfo = dict(classes=('Platelets', 'RBC', 'WBC'))
img_size = 320  # the pictures are 640 x 480
batch, max_iters = 8, 800  # over all ranks: 6,400 pictures, 22 times the set

model = dict(bbox_head=dict(num_classes=len(metainfo['classes']), img_size=img_size))

load_pipeline = [
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='LoadResizedImage', img_size=img_size, cache_mb=400),
]
train_pipeline = [
    dict(type='MosaicAffine', img_size=img_size, translate=0.1, scale=0.5), *_base_.train_pipeline[1:-2],
    # cells have no up and down
    dict(type='RandomFlip', prob=[0.3, 0.3, 0.2], direction=['horizontal', 'vertical', 'diagonal']),
    _base_.train_pipeline[-1]]
test_pipeline = [_base_.test_pipeline[0], dict(type='LetterBox', img_size=img_size, upscale=True),
                 *_base_.test_pipeline[2:]]

common = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/'))
train_dataloader = dict(batch_size=batch, dataset=dict(
    dataset=dict(ann_file=train_file, pipeline=load_pipeline, **common), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    img_size=img_size, dataset=dict(ann_file=val_file, pipeline=test_pipeline, **common)))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file, classwise=True)
test_evaluator = val_evaluator

auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=0, end=max_iters)]
custom_hooks = [
    dict(type='AutoAnchorHook', img_size=img_size),
    dict(type='BiasWarmupHook', iters=100, bias_lr=0.0, momentum=None),
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=5e-3, gamma=200, update_buffers=True, priority=49),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
