"""A small Mask R-CNN on the demo set, for a CPU: all but backbone, ``neck.in_channels`` and the schedule's length."""

_base_ = ['models/mask-rcnn_sfp_tiny.py', 'datasets/demo_lsj.py', 'schedules/demo.py', 'runtime.py']

num_classes = len(_base_.demo_classes)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
    test_cfg=dict(rcnn=dict(score_thr=0.01)))
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, save_best=None))
randomness = dict(seed=0)
