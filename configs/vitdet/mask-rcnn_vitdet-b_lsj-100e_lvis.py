"""ViTDet-B, Mask R-CNN, LVIS v1 (1203 classes), 100 epochs, federated loss and repeat factor sampling.

Data: https://www.lvisdataset.org/dataset, in $VITDET_DATA/lvis, and COCO's images in $VITDET_DATA/coco (default data/).
"""

_base_ = '../vitdet_100e.py'

data_root = '{{$VITDET_DATA:data}}/'
train_file, val_file = 'lvis/lvis_v1_train.json', 'lvis/lvis_v1_val.json'
num_classes = 1203

# Schedule: 100 ep = 100 x 100,000 images = 156,250 it x 64 images
images = 100_000
max_iters = _base_.epochs * images // _base_.batch
milestones = [round(max_iters * part) for part in (8 / 9, 26 / 27)]  # 138,889 and 150,463

# the classes of the image and others drawn in proportion to frequency ** 0.5, 50 in all
loss_cls = dict(type='FederatedSigmoidLoss', frequencies=data_root + train_file, num_sampled=50, power=0.5)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_classes, loss_cls=dict(_delete_=True, **loss_cls)),
        mask_head=dict(num_classes=num_classes)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))

lvis = dict(type='LVISDetDataset', data_root=data_root, data_prefix=dict(img='coco/'))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',  # repeats images of classes that occur in less than one of 1000 images
        oversample_thr=1e-3,
        dataset=dict(ann_file=train_file, filter_cfg=dict(filter_empty_gt=True, min_size=1),
                     pipeline=_base_.train_pipeline, **lvis)))
val_dataloader = dict(
    dataset=dict(_delete_=True, ann_file=val_file, test_mode=True, pipeline=_base_.test_pipeline, **lvis))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='LVISDetMetric', ann_file=data_root + val_file, metric=['bbox', 'segm'])
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=_base_.warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=30_000)
