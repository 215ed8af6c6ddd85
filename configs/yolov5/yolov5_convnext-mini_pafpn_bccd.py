"""The small ConvNeXt in YOLOv5 on a custom data set: blood cells (BCCD), with annotations in VOC's XML.

Copy it and change the folder, the files and the class names, in the order of the annotation file. The data are
https://github.com/Shenggan/BCCD_Dataset. The JSON files are made by vitdet convert voc-to-coco, or yolo-to-coco (see
README.md in this folder). Searched for in $BCCD_ROOT, else in $VITDET_DATA/bccd (default data/bccd).
"""

_base_ = ['yolov5_convnext-mini_pafpn_demo.py', '../_base_/datasets/bccd.py']

data_root, train_file, val_file = _base_.bccd_root, _base_.bccd_train, _base_.bccd_val
metainfo = dict(classes=_base_.bccd_classes)
img_size = 320  # half of the images' size of 640 x 480
batch, max_iters = 8, 800  # 800 it x 8 images, all ranks together: 22 times the 292 images

model = dict(bbox_head=dict(num_classes=len(metainfo['classes']), img_size=img_size))

load_resized = dict(_base_.load_resized, img_size=img_size)
mosaic = dict(_base_.mosaic, img_size=img_size)
letterbox = dict(_base_.letterbox, img_size=img_size)
# orientation has no meaning for cells
flip = dict(type='RandomFlip', prob=[0.3, 0.3, 0.2], direction=['horizontal', 'vertical', 'diagonal'])
load_pipeline = [_base_.load_boxes, load_resized]
train_pipeline = [mosaic, _base_.hsv, flip, _base_.pack_train]
test_pipeline = [_base_.load_image, letterbox, _base_.load_boxes, _base_.pack_test]

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
auto_anchor = dict(_base_.auto_anchor, img_size=img_size)
custom_hooks = [auto_anchor, _base_.short_bias_warmup, _base_.short_average]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
