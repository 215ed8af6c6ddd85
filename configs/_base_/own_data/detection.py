"""What the two-stage detectors that ``vitdet init`` offers have in common: data and schedule.

A config adds files, class names and sizes. Nothing here depends on a data set: the only changes to images are a flip, a
scale and a crop, and the schedule ends with the training, however long that is.
"""

_base_ = ['../datasets/coco_small.py', '../schedules/small_data.py']

load = [_base_.load_image, _base_.load_annotations]  # boxes only: _base_.load_boxes
jitter = dict(_base_.jitter, scale=(0.6, 1.4))
# for images with up to 300 objects: test_cfg=_base_.many_objects in a model
many_objects = dict(rpn=dict(nms_pre=1000, max_per_img=500), rcnn=dict(max_per_img=300))
# images without objects are kept, as background; paths are absolute
train_dataloader = dict(dataset=dict(data_prefix=dict(img=''), filter_cfg=dict(filter_empty_gt=False, min_size=1)))
val_dataloader = dict(dataset=dict(data_prefix=dict(img='')))
test_dataloader = val_dataloader

param_scheduler = [_base_.warm_up, dict(type='CosineAnnealingLR', by_epoch=False, begin=_base_.warmup,
                                        eta_min_ratio=0.01)]
