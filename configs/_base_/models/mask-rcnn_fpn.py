"""Mask R-CNN with an FPN, mmdet's settings and weights, and heads that treat all images of a batch at once.

Losses and proposals are those of mmdet's heads. A config replaces the backbone and sets ``neck.in_channels``.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    rpn_head=dict(type='BatchedRPNHead'),
    roi_head=dict(type='BatchedRoIHead', mask_head=dict(type='BatchedMaskHead')),
    train_cfg=dict(rpn=dict(sampler=dict(type='DeferredRandomSampler')),
                   rcnn=dict(sampler=dict(type='DeferredRandomSampler'))))
