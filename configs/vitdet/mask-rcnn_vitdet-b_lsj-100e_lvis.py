"""ViTDet-B, Mask R-CNN, LVIS v1, 100 epochs, federated loss and repeat factor sampling."""

_base_ = ['../vitdet_100e.py', '../_base_/datasets/lvis.py']

# Schedule: 100 ep = 100 x 100,000 images = 156,250 it x 64 images
images = 100_000
max_iters = _base_.epochs * images // _base_.batch
milestones = [round(max_iters * part) for part in (8 / 9, 26 / 27)]  # 138,889 and 150,463

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=_base_.lvis_classes, loss_cls=dict(_delete_=True, **_base_.lvis_loss)),
        mask_head=dict(num_classes=_base_.lvis_classes)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))

train_set = dict(ann_file=_base_.lvis_train, filter_cfg=_base_.lvis_filter, pipeline=_base_.train_pipeline,
                 **_base_.lvis)
val_set = dict(ann_file=_base_.lvis_val, test_mode=True, pipeline=_base_.test_pipeline, **_base_.lvis)
train_dataloader = dict(dataset=dict(_delete_=True, dataset=train_set, **_base_.lvis_repeats))
val_dataloader = dict(dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **_base_.lvis_metric)
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=30_000)
