# A tiny ViTDet Mask R-CNN: 64 pixels, two blocks of width 32, 16 channels in the pyramid.
# The data root is set by the environment variable TINY_SET or with --cfg-options.
import os

custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
default_scope = 'mmdet'
data_root = os.environ.get('TINY_SET', 'nowhere')
metainfo = dict(classes=('apple', 'lime', 'plum'))

coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2])
nms = dict(type='nms', iou_threshold=0.7)
assigner = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=-1)
sampler = dict(type='RandomSampler', num=16, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=False)
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[110.] * 3, std=[60.] * 3, pad_mask=True,
                           pad_size_divisor=32),
    backbone=dict(type='ViTDet', arch=dict(embed_dim=32, depth=2, num_heads=2), img_size=64, patch_size=16,
                  window_size=2, propagation_indexes=[1], pretrain_img_size=64, drop_path_rate=0.),
    neck=dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=16),
    rpn_head=dict(type='RPNHead', in_channels=16, feat_channels=16, bbox_coder=coder,
                  anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1., 2.],
                                        strides=[4, 8, 16, 32, 64])),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=4),
                                out_channels=16, featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, roi_feat_size=4, num_classes=3,
                       bbox_coder=coder),
        mask_roi_extractor=dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7),
                                out_channels=16, featmap_strides=[4, 8, 16, 32]),
        mask_head=dict(type='FCNMaskHead', num_convs=1, in_channels=16, conv_out_channels=16, num_classes=3)),
    train_cfg=dict(rpn=dict(assigner=assigner, sampler=sampler, allowed_border=-1, pos_weight=-1),
                   rpn_proposal=dict(nms_pre=100, max_per_img=30, nms=nms, min_bbox_size=0),
                   rcnn=dict(assigner=assigner, sampler=dict(sampler, add_gt_as_proposals=True), mask_size=14,
                             pos_weight=-1)),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=20, nms=nms, min_bbox_size=0),
                  rcnn=dict(score_thr=0.01, nms=nms, max_per_img=10, mask_thr_binary=0.5)))

train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                  dict(type='PackDetInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
                 dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
dataset = dict(type='CocoDataset', data_root=data_root, ann_file='coco.json', data_prefix=dict(img='images/'),
               metainfo=metainfo)
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(**dataset, pipeline=test_pipeline, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + '/coco.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=10.))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(type='LoggerHook', interval=2), checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
