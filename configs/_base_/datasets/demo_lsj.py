"""The demo set with large-scale jitter, for Mask R-CNN on a CPU."""

_base_ = ['coco_lsj.py', 'demo_set.py']

data_root = _base_.demo_root
crop_size = 128  # pixels; size of the training crops
batch_size = 8  # images per iteration, all ranks together

load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
# Scale 1.0 fits the longer side of 160 pixels into crop_size: 0.9 to 1.4 times the original size.
jitter = dict(type='LargeScaleJitter', image_size=crop_size, scale=(1.12, 1.75), resize_backend='cv2')
resize = dict(type='Resize', scale_factor=1.4)  # the largest size in training
train_pipeline = [_base_.load_image, load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, load_annotations, _base_.pack_test]

loading = dict(num_workers=0, persistent_workers=False)  # loading an image takes a millisecond
train_dataloader = dict(batch_size=batch_size, **loading, dataset=dict(pipeline=train_pipeline, **_base_.demo_train))
val_dataloader = dict(batch_size=1, **loading, dataset=dict(pipeline=test_pipeline, **_base_.demo_val))
test_dataloader = val_dataloader
val_evaluator = _base_.demo_evaluator
test_evaluator = val_evaluator
