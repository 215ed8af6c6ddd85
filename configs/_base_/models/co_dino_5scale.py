"""Co-DINO with five levels of strides 4 to 64, and the head sizes of Sense-X's ViT-L. A config adds the backbone."""

_base_ = 'co_dino.py'

levels, strides = 5, [4, 8, 16, 32, 64, 128]
sampler = dict(num_levels=levels)
roi_head, atss_head = _base_.model.aux_roi_heads[0], _base_.model.aux_bbox_heads[0]  # items of lists are replaced
model = dict(
    num_queries=1500,
    num_feature_levels=levels,
    neck=dict(num_outs=levels),
    encoder=dict(layer_cfg=dict(self_attn_cfg=sampler)),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=sampler)),
    dn_cfg=dict(box_noise_scale=0.4, group_cfg=dict(num_dn_queries=300)),
    aux_rpn_head=dict(
        anchor_generator=dict(strides=strides),
        test_cfg=dict(nms_pre=8000, max_per_img=2000, nms=dict(iou_threshold=0.9))),
    aux_roi_heads=[dict(
        roi_head,
        bbox_roi_extractor=dict(roi_head.bbox_roi_extractor, featmap_strides=strides[:-1]),
        bbox_head=dict(
            roi_head.bbox_head,
            type='ConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=1,
            conv_out_channels=256,
            bbox_coder=dict(roi_head.bbox_head.bbox_coder, target_stds=[0.05, 0.05, 0.1, 0.1]),
            reg_class_agnostic=True,
            norm_cfg=dict(type='GN', num_groups=32)))],
    aux_bbox_heads=[dict(atss_head, anchor_generator=dict(atss_head.anchor_generator, strides=strides))],
    test_cfg=dict(max_per_img=1000))
