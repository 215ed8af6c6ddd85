"""Two InternImage-H (CBNetV2) in DINO, trained on Objects365, then on LVIS v1 (OpenGVLab's ``lvis_val_ss``).

80,000 it from the weights of Objects365, at a constant rate; the loss counts 50 classes at a time.
"""

_base_ = ['../_base_/models/dino_cb-internimage-h.py', '../_base_/datasets/coco_detr.py',
          '../_base_/datasets/lvis.py', '../_base_/datasets/large_images.py', '../_base_/schedules/dino_constant.py',
          '../_base_/runtime.py']

max_iters, val_interval = 80_000, 500
load_from = 'dino_cb-internimage-h_4scale_objects365-80classes'

loss_cls = dict(_base_.lvis_loss, type='FederatedFocalLoss')
model = dict(bbox_head=dict(num_classes=_base_.lvis_classes, loss_cls=dict(_delete_=True, **loss_cls)))

train_set = dict(ann_file=_base_.lvis_train, filter_cfg=_base_.lvis_filter, pipeline=_base_.large_train_pipeline,
                 **_base_.lvis)
val_set = dict(ann_file=_base_.lvis_val, test_mode=True, pipeline=_base_.large_test_pipeline, **_base_.lvis)
train_dataloader = dict(batch_size=1, dataset=dict(_delete_=True, dataset=train_set, **_base_.lvis_repeats))
val_dataloader = dict(dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **dict(_base_.lvis_metric, metric='bbox'))
test_evaluator = val_evaluator

optim_wrapper = dict(paramwise_cfg=_base_.layer_rates)
param_scheduler = [_base_.warm_up, dict(_base_.constant, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
