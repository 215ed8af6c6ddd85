"""The small ViTDet on three classes of one's own: what a config for any COCO-format set looks like.

Copy it and write the set's folder and files, and its class names in the order of the annotation file.
The set is looked for in $FRUITS_NUTS_ROOT, by default ../shared/data/fruits_nuts.
"""

_base_ = 'mask-rcnn_vitdet-tiny_lsj-1500it_coco-mini.py'

data_root = '{{$FRUITS_NUTS_ROOT:../shared/data/fruits_nuts}}/'
train_file, val_file = 'annotations/instances_train.json', 'annotations/instances_val.json'
metainfo = dict(classes=('date', 'fig', 'hazelnut'))
num_classes = len(metainfo['classes'])
max_iters = 500  # 154 times the 13 pictures

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

common = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_dataloader = dict(dataset=dict(ann_file=train_file, **common))
val_dataloader = dict(dataset=dict(ann_file=val_file, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, T_max=max_iters - 50, eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
