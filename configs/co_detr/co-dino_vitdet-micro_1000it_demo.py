"""A small Co-DINO for the CPU on the demo set: the demo's DINO with a Faster R-CNN and an ATSS head.

vitdet demo co-dino_vitdet-micro_1000it_demo
"""

_base_ = ['../_base_/dino_micro_1000it_demo.py', '../_base_/models/co_dino_heads.py']

strides = [8, 16, 32, 64]  # three levels of the encoder, and the last one downsampled
channels, classes = dict(in_channels=_base_.width, feat_channels=_base_.width), len(_base_.demo_classes)
rpn, roi, atss = _base_.co_dino.aux_rpn_head, _base_.co_dino.aux_roi_heads[0], _base_.co_dino.aux_bbox_heads[0]
few = dict(rpn.test_cfg, nms_pre=300, max_per_img=100)  # proposals

model = dict(
    _base_.co_dino,
    bbox_head=dict(type='CoDINOHead'),  # focal loss as the DINO
    aux_rpn_head=dict(rpn, **channels, anchor_generator=dict(rpn.anchor_generator, strides=strides), test_cfg=few),
    proposal_cfg=few,
    max_customized=60,
    aux_roi_heads=[dict(
        roi,
        bbox_roi_extractor=dict(roi.bbox_roi_extractor, out_channels=_base_.width, featmap_strides=strides[:-1]),
        bbox_head=dict(roi.bbox_head, in_channels=_base_.width, fc_out_channels=4 * _base_.width, num_classes=classes),
        train_cfg=dict(roi.train_cfg, sampler=dict(roi.train_cfg.sampler, num=64)))],
    aux_bbox_heads=[dict(
        atss, **channels, anchor_generator=dict(atss.anchor_generator, strides=strides), num_classes=classes)],
    test_cfg=dict(nms=_base_.model.test_cfg.nms))
