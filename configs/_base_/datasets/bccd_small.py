"""BCCD, blood cells, in COCO format. A config adds the pipelines, which depend on its ``image_size``."""

_base_ = ['coco_small.py', 'bccd.py']

data_root, train_file, val_file = _base_.bccd_root, _base_.bccd_train, _base_.bccd_val
metainfo = dict(classes=_base_.bccd_classes)
num_classes = len(metainfo['classes'])

common = dict(data_root=data_root, metainfo=metainfo)  # images in images/
train_dataloader = dict(dataset=dict(ann_file=train_file, **common))
val_dataloader = dict(dataset=dict(ann_file=val_file, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file, metric='bbox')
test_evaluator = val_evaluator
