"""DINO with four levels of features (arXiv 2203.03605). A config adds the backbone and ``neck.in_channels``."""

width, num_levels, num_layers = 256, 4, 6
sampler = dict(embed_dims=width, num_levels=num_levels, dropout=0.0)
feed_forward = dict(embed_dims=width, feedforward_channels=2048, ffn_drop=0.0)

model = dict(
    type='DINO',
    num_queries=900,
    num_feature_levels=num_levels,
    with_box_refine=True,
    as_two_stage=True,
    data_preprocessor=dict(
        type='DetDataPreprocessor',  # pads with zeros on the right and at the bottom, after normalization
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    neck=dict(
        type='ChannelMapper',  # the last level is a convolution of stride 2 on the backbone's last map
        kernel_size=1,
        out_channels=width,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32),
        num_outs=num_levels),
    encoder=dict(num_layers=num_layers, layer_cfg=dict(self_attn_cfg=sampler, ffn_cfg=feed_forward)),
    decoder=dict(
        num_layers=num_layers,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=width, num_heads=8, dropout=0.0),
            cross_attn_cfg=sampler,
            ffn_cfg=feed_forward),
        post_norm_cfg=None),
    positional_encoding=dict(num_feats=width // 2, normalize=True, offset=0.0, temperature=20),
    bbox_head=dict(
        type='OriginalDINOHead',
        embed_dims=width,
        num_classes=80,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=100)),
    train_cfg=dict(assigner=dict(
        type='HungarianAssigner',
        match_costs=[
            dict(type='FocalLossCost', weight=2.0),
            dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
            dict(type='IoUCost', iou_mode='giou', weight=2.0),
        ])),
    test_cfg=dict(max_per_img=300))
