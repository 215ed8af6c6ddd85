"""Two InternImage-H (CBNetV2) in DINO, trained on Objects365, then on COCO (arXiv 2211.05778, ``cbinternimage_h``).

20,000 it from the weights of Objects365, at a constant rate.
"""

_base_ = ['../_base_/models/dino_cb-internimage-h.py', '../_base_/datasets/coco_detr.py',
          '../_base_/datasets/large_images.py', '../_base_/schedules/dino_constant.py', '../_base_/runtime.py']

max_iters, val_interval = 20_000, 200
load_from = 'dino_cb-internimage-h_4scale_objects365-80classes'

wide = dict(_base_.range_resize, scale=[(2000, 600), (2000, 1800)])
train_pipeline = [_base_.load_image, _base_.load_boxes, _base_.flip, wide, _base_.pack]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.large_test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(paramwise_cfg=_base_.layer_rates)
param_scheduler = [_base_.warm_up, dict(_base_.constant, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
