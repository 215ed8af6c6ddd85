"""Cascade R-CNN (boxes only) with an FPN, like ``mask-rcnn_fpn.py``."""

_base_ = 'mmdet::_base_/models/cascade-rcnn_r50_fpn.py'

model = dict(
    rpn_head=dict(type='BatchedRPNHead'),
    roi_head=dict(type='BatchedCascadeRoIHead'),
    train_cfg=dict(
        rpn=dict(sampler=dict(type='DeferredRandomSampler')),
        rcnn=[dict(stage, sampler=dict(stage.sampler, type='DeferredRandomSampler'))
              for stage in _base_.model.train_cfg.rcnn]))
