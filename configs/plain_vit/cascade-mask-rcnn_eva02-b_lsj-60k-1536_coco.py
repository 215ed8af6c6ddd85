"""EVA-02-B, Cascade Mask R-CNN, COCO, 60,000 iterations at 1536 pixels, 6 global blocks (``eva02_B_coco_sys``)."""

_base_ = 'cascade-mask-rcnn_eva02-b_lsj-60k_coco.py'

image_size = 1536
jitter = dict(_base_.jitter, image_size=image_size)
resize = dict(_base_.resize, scale=(image_size, image_size))

model = dict(
    data_preprocessor=dict(pad_size_divisor=image_size),
    backbone=dict(window_size=32, global_block_indexes=[1, 3, 5, 7, 9, 11], with_cp=True),
    test_cfg=dict(rcnn=_base_.soft_nms_and_maskness))

train_pipeline = [_base_.load_image, _base_.load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
