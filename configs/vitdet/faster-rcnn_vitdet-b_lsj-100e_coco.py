"""ViTDet-B, Faster R-CNN: boxes only, for data without masks."""

_base_ = '../vitdet_100e.py'

model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))

load_boxes = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [_base_.load_image, load_boxes, _base_.jitter, _base_.pack_train]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
