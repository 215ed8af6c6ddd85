"""A small data set in COCO format: flips and moderate scale jitter. A config adds the files and the class names.

With another ``image_size`` in a config, set it in ``jitter`` and ``resize`` as well.
"""

_base_ = 'coco_lsj.py'

image_size = 448  # pixels; 28 x 28 patches of 16 pixels
batch_size = 4

# mirrored left and right only; 0.5 to 1.5 times the size that fits into image_size
jitter = dict(type='LargeScaleJitter', image_size=image_size, scale=(0.5, 1.5), resize_backend='cv2')
resize = dict(type='Resize', scale=(image_size, image_size), keep_ratio=True, backend='pillow')
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [_base_.load_image, _base_.load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]

train_dataloader = dict(batch_size=batch_size, num_workers=1,
                        dataset=dict(data_prefix=dict(img='images/'), pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_prefix=dict(img='images/'), pipeline=test_pipeline))
test_dataloader = val_dataloader
