"""ImageNet-1k at 224 x 224 with 3-Augment (DeiT III, arXiv 2204.07118, section 3): grayscale, solarize or blur."""

_base_ = 'imagenet_224.py'

three_augment = dict(type='RandomChoice', transforms=[  # each with the same probability
    [dict(type='RandomGrayscale', prob=1.0, keep_channels=True)],
    [dict(type='Solarize', thr=128, prob=1.0)],
    [dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=1.0)]])
color_jitter = dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, backend='cv2')
train_pipeline = [_base_.load_image, _base_.random_crop, _base_.flip, three_augment, color_jitter, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
