"""ViT-L (EVA-02), Co-DINO with five levels, COCO, 16 epochs at up to 2048 x 1280 (``co_dino_5scale_vit_large_coco``).

Sense-X, the reference, starts from its own training on Objects365; here it is EVA-02's pre-training.
"""

_base_ = ['../_base_/models/co_dino.py', '../_base_/models/eva02.py', '../_base_/datasets/coco_detr.py',
          '../_base_/schedules/dino_coco_1x.py', '../_base_/runtime.py']

levels, strides, batch = 5, [4, 8, 16, 32, 64, 128], 16  # 16 GPUs x 1 image; the reference does not state their number
epochs, epoch = 16, 118_000 // batch
max_iters = epochs * epoch

sampler = dict(num_levels=levels)
model = dict(
    num_queries=1500,
    num_feature_levels=levels,
    backbone=dict(
        _base_.eva02_large,
        img_size=512,  # table of absolute positions: 32 x 32
        window_size=24,
        global_block_indexes=[3, 7, 11, 15, 19, 23]),
    # strides 4, 8, 16, 32 and, subsampled, 64 from the only map of stride 16
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=1024, out_channels=_base_.width,
              scale_factors=(4.0, 2.0, 1.0, 0.5), num_outs=levels),
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

sides = [(side, 2048) for side in range(480, 1281, 32)]
resize = dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[
        [resize],
        [dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
         dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
         resize]]),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1280), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=False)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# layer i of L = 24: learning rate x 0.8 ** (25 - i)
optim_wrapper = dict(optimizer=dict(lr=5e-5, weight_decay=0.01), paramwise_cfg=dict(layer_decay_rate=0.8))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[9 * epoch, 15 * epoch], gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=epoch)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=epoch))
custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, priority=49)]
