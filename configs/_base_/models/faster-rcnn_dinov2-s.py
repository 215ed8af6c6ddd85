"""DINOv2's ViT-S in a narrow Faster R-CNN (boxes only), see ``mask-rcnn_dinov2-s.py``."""

_base_ = 'mask-rcnn_dinov2-s.py'

model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))
