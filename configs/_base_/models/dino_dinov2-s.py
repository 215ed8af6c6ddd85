"""DINOv2's ViT-S in a small DINO, for data sets of 50 to 5,000 images. A config adds ``bbox_head.num_classes``."""

_base_ = ['dino_4scale.py', 'dino_small.py']

width, levels, layers, queries = 128, 3, 3, 100

sampler = dict(embed_dims=width, num_levels=levels)
feed_forward = dict(embed_dims=width, feedforward_channels=4 * width)
model = dict(
    num_queries=queries,
    num_feature_levels=levels,
    backbone=_base_.dinov2_s,
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=384, out_channels=width,
              scale_factors=(2.0, 1.0, 0.5), num_outs=levels),  # strides 8, 16, 32
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=sampler, ffn_cfg=feed_forward)),
    decoder=dict(num_layers=layers, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=width), cross_attn_cfg=sampler, ffn_cfg=feed_forward)),
    positional_encoding=dict(num_feats=width // 2),
    bbox_head=dict(embed_dims=width, loss_cls=dict(loss_weight=2.0)),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=200)),
    test_cfg=dict(max_per_img=queries, nms=dict(type='nms', iou_threshold=0.7)))  # few steps leave duplicates
