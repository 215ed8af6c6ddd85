"""Co-DINO with five levels of strides 4 to 64, and the head sizes of Sense-X's ViT-L. A config adds the backbone."""

_base_ = 'co_dino.py'

levels, strides = 5, [4, 8, 16, 32, 64, 128]
sampler = dict(num_levels=levels)
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
        _base_.model.aux_roi_heads[0],
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256, featmap_strides=strides[:-1], finest_scale=56),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=1,
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.05, 0.05, 0.1, 0.1]),
            reg_class_agnostic=True,
            reg_decoded_bbox=True,
            norm_cfg=dict(type='GN', num_groups=32),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='GIoULoss', loss_weight=10.0)))],
    aux_bbox_heads=[dict(
        _base_.model.aux_bbox_heads[0],
        anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
                              strides=strides))],
    test_cfg=dict(max_per_img=1000))
