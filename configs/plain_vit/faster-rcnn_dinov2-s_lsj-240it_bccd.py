"""DINOv2's ViT-S in a Faster R-CNN (boxes only) on blood cells (BCCD).

The data are https://github.com/Shenggan/BCCD_Dataset, as JSON by vitdet convert (configs/yolov5/README.md). Searched
for in $BCCD_ROOT, else in $VITDET_DATA/bccd (default data/bccd).
"""

import os

_base_ = 'mask-rcnn_dinov2-s_lsj-240it_fruits-nuts.py'

data_root = os.environ.get('BCCD_ROOT', '{{$VITDET_DATA:data}}/bccd') + '/'
train_file, val_file = 'annotations/trainval.json', 'annotations/test.json'
metainfo = dict(classes=('Platelets', 'RBC', 'WBC'))

model = dict(
    type='FasterRCNN',
    roi_head=dict(mask_roi_extractor=None, mask_head=None, bbox_head=dict(num_classes=len(metainfo['classes']))))

load_boxes = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [_base_.load_image, load_boxes, _base_.jitter, _base_.pack_train]
common = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_dataloader = dict(dataset=dict(ann_file=train_file, pipeline=train_pipeline, **common))
val_dataloader = dict(dataset=dict(ann_file=val_file, **common))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file, metric='bbox')
test_evaluator = val_evaluator
