"""The demo's small ViTDet in a narrow Faster R-CNN (boxes only), for own data on a CPU and without a download."""

_base_ = 'mask-rcnn_vitdet-tiny.py'

load = [_base_.load_image, _base_.load_boxes]
model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
