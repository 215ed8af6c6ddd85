"""Objects365 V2 (365 classes) as DETR trains on it: the pipelines of ``coco_detr.py``.

Data: https://www.objects365.org, in $VITDET_DATA/Objects365/Obj365_v2 (default data/); layout in data/README.md.
"""

_base_ = 'coco_detr.py'

data_root = '{{$VITDET_DATA:data}}/Objects365/Obj365_v2/'
num_classes = 365
train_file, val_file = 'annotations/zhiyuan_objv2_train.json', 'annotations/zhiyuan_objv2_val.json'

objects365 = dict(type='Objects365V2Dataset', data_root=data_root)
train_dataloader = dict(dataset=dict(ann_file=train_file, data_prefix=dict(img='train/'), **objects365))
val_dataloader = dict(dataset=dict(ann_file=val_file, data_prefix=dict(img='val/'), **objects365))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator
