"""Two InternImage-H (CBNetV2) in DINO, trained on Objects365, then on VOC 2007 and 2012 (OpenGVLab's ``voc07``).

20,000 it from the weights of Objects365, at a constant rate of half that on COCO.
"""

_base_ = ['../_base_/models/dino_cb-internimage-h.py', '../_base_/datasets/voc0712.py',
          '../_base_/datasets/large_images.py', '../_base_/schedules/dino_constant.py', '../_base_/runtime.py']

max_iters, val_interval = 20_000, 500
load_from = 'dino_cb-internimage-h_4scale_objects365-80classes'
model = dict(bbox_head=dict(num_classes=_base_.num_classes))

train = dict(pipeline=_base_.large_train_pipeline)
train_dataloader = dict(batch_size=1, dataset=dict(
    datasets=[dict(_base_.voc07, **train), dict(_base_.voc12, **train)], **_base_.both))
val_dataloader = dict(dataset=dict(pipeline=_base_.large_test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=0.5e-4), paramwise_cfg=_base_.layer_rates)
param_scheduler = [_base_.warm_up, dict(_base_.constant, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
