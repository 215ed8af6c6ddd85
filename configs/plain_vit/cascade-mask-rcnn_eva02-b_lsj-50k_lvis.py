"""EVA-02-B, Cascade Mask R-CNN, LVIS, 50,000 iterations at 1024 pixels, federated loss (``eva02_B_lvis_bsl``)."""

_base_ = ['cascade-mask-rcnn_eva02-b_lsj-60k_coco.py', '../_base_/datasets/lvis.py']

box_heads = [dict(head, num_classes=_base_.lvis_classes, loss_cls=_base_.lvis_loss)
             for head in _base_.cascade_box_heads]
model = dict(
    roi_head=dict(bbox_head=box_heads, mask_head=dict(num_classes=_base_.lvis_classes)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))

train_set = dict(ann_file=_base_.lvis_train, filter_cfg=_base_.lvis_filter, pipeline=_base_.train_pipeline,
                 **_base_.lvis)
val_set = dict(ann_file=_base_.lvis_val, test_mode=True, pipeline=_base_.test_pipeline, **_base_.lvis)
train_dataloader = dict(dataset=dict(_delete_=True, dataset=train_set, **_base_.lvis_repeats))
val_dataloader = dict(dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **_base_.lvis_metric)
test_evaluator = val_evaluator

# 50,000 it x 128 images; the learning rate x 0.1 after 80 % and again after 90 %
max_iters = 50_000
milestones = [max_iters * 8 // 10, max_iters * 9 // 10]
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=2500)
default_hooks = dict(checkpoint=dict(interval=2500))
