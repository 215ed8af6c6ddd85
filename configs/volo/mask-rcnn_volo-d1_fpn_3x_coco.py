"""Mask R-CNN with VOLO-D1, COCO, 36 epochs of multi-scale crops: a proposal, nobody has published VOLO detectors.

The pyramid stands on maps of stride 8, 16 and 32, so anchors are half as many strides wide as usual.
"""

_base_ = '../convnext/mask-rcnn_convnext-t_fpn_3x_coco.py'

checkpoint = 'checkpoints/d1_224_84.2.pth.tar'
dims = [192, 384, 384]
strides = [8, 16, 32, 64, 128]

model = dict(
    backbone=dict(
        _delete_=True,
        type='VOLO',
        arch='d1',
        out_indices=(0, 1, 2),
        drop_path_rate=0.1,
        norm_eval=True,  # two pictures a GPU are too few for the stem's BatchNorm
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(in_channels=dims),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=strides)),  # sides of 32 ... 512 pixels
    # boxes of up to 224 pixels look at stride 8, of up to 448 at stride 16
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=strides[:3], finest_scale=112),
                  mask_roi_extractor=dict(featmap_strides=strides[:3], finest_scale=112)))

# the outlookers learn at about half the rate of the last blocks
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95))
