"""DINOv2's ViT-S in a narrow Mask R-CNN with a map of stride 4, for small objects in own data."""

_base_ = 'mask-rcnn_dinov2-s.py'

strides = [4, 8, 16, 32]  # of the maps; the region proposals use another one of 64, pooled
model = dict(
    neck=dict(scale_factors=(4.0, 2.0, 1.0, 0.5)),
    rpn_head=dict(anchor_generator=dict(strides=[*strides, 64])),
    roi_head=dict(
        # boxes of up to 48 pixels are pooled from stride 4, of up to 96 from stride 8, …
        bbox_roi_extractor=dict(featmap_strides=strides, finest_scale=24),
        mask_roi_extractor=dict(featmap_strides=strides, finest_scale=24)),
    # more objects in an image
    train_cfg=dict(rpn=dict(sampler=dict(num=256)), rpn_proposal=dict(nms_pre=1000, max_per_img=500),
                   rcnn=dict(sampler=dict(num=256))))
