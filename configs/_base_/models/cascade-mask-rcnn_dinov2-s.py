"""DINOv2's ViT-S in a narrow Cascade Mask R-CNN, see ``mask-rcnn_dinov2-s.py``: more precise boxes, more time.

A config adds the numbers of classes: ``bbox_head=[dict(head, num_classes=…) for head in _base_.small_box_heads]``. For
boxes only: ``roi_head=dict(mask_roi_extractor=None, mask_head=None)``.
"""

_base_ = ['mask-rcnn_dinov2-s.py', 'cascade_rcnn.py']

small_box_heads = [dict(head, **_base_.small_box_head) for head in _base_.cascade_box_heads]
first, *others = _base_.cascade_train_cfg
first = dict(first, sampler=dict(first.sampler, num=128))

model = dict(
    type='CascadeRCNN',
    roi_head=dict(type='ViTDetCascadeRoIHead', num_stages=3, bbox_head=small_box_heads),
    train_cfg=dict(rcnn=[first, *others]))
