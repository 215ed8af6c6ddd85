"""ViTDet-B, Faster R-CNN: boxes only, for data without masks."""

_base_ = '../vitdet_100e.py'

model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='LargeScaleJitter', image_size=1024, scale=(0.1, 2.0), resize_backend='pillow'),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
