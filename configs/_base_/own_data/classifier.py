"""What the classifiers that ``vitdet init`` offers have in common: data, neutral augmentation, schedule."""

_base_ = ['../schedules/adamw_cosine_300e.py', '../runtime_cls.py']

image_size, batch_size, warmup = 224, 16, 1
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of ImageNet, of R, G and B

smooth_loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
model = dict(type='ImageClassifier', head=dict(num_classes=1000, loss=smooth_loss),
             data_preprocessor=dict(type='ClsDataPreprocessor', mean=mean, std=std, to_rgb=True))

load_image = dict(type='LoadImageFromFile')
crop = dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.4, 1.0), interpolation='bicubic')
augment = [dict(type='RandomFlip', prob=0.5, direction='horizontal'),
           dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, backend='cv2')]
resize = dict(type='ResizeEdge', scale=image_size, edge='short', interpolation='bicubic')
center = dict(type='CenterCrop', crop_size=image_size)
pack = dict(type='PackInputs')
train_pipeline = [load_image, crop, *augment, pack]
test_pipeline = [load_image, resize, center, pack]

common = dict(batch_size=batch_size, num_workers=1, persistent_workers=True)
train_dataloader = dict(
    **common, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_prefix='', pipeline=train_pipeline))
val_dataloader = dict(
    **common, drop_last=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_prefix='', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='ClassMeans', items=['f1-score'])]
test_evaluator = val_evaluator

# half a cosine that ends with the training, however long that is; in the first epoch multiplied by a rising factor
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, eta_min=0.0, convert_to_iter_based=True)]
optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=batch_size)
custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=1e-4, gamma=10)]
default_hooks = dict(logger=dict(interval=20))
