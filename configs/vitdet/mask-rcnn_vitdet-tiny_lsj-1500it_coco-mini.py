"""A small ViTDet for the CPU on a COCO-format set of small pictures; 80 classes.

The set is looked for in $COCO_MINI_ROOT, by default ../shared/data/coco_mini_320.
"""

_base_ = '../vitdet_100e.py'

data_root = '{{$COCO_MINI_ROOT:../shared/data/coco_mini_320}}/'
image_size, num_classes = 256, 80
batch, max_iters, warmup = 4, 1500, 100
milestones = [round(max_iters * part) for part in (8 / 9, 26 / 27)]
dim, width = 128, 64  # of the backbone; of the pyramid and the heads

coder = dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])
model = dict(
    data_preprocessor=dict(pad_size_divisor=image_size),
    # 6 blocks on 32 x 32 tokens of 8 pixels, from the demo's weights (no class slot)
    backbone=dict(_delete_=True, type='ViTDet', arch=dict(embed_dim=dim, depth=6, num_heads=4), img_size=image_size,
                  patch_size=8, window_size=8, drop_path_rate=0.0, pretrain_img_size=image_size,
                  pretrain_use_cls_token=False, init_cfg=dict(
                      type='Pretrained', checkpoint='{{ fileDirname }}/../../demo/vitdet_demo_pretrained.safetensors')),
    neck=dict(in_channels=dim, out_channels=width, scale_factors=(2.0, 1.0, 0.5, 0.25)),  # strides 4, 8, 16, 32
    rpn_head=dict(in_channels=width, feat_channels=width, num_convs=1, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        # boxes of up to 56 pixels look at stride 4, of up to 112 at stride 8 ...
        bbox_roi_extractor=dict(out_channels=width, finest_scale=28),
        bbox_head=dict(_delete_=True, type='ConvFCBBoxHead', num_shared_convs=2, num_shared_fcs=1, in_channels=width,
                       conv_out_channels=width, fc_out_channels=256, roi_feat_size=7, num_classes=num_classes,
                       norm_cfg=_base_.norm_cfg, bbox_coder=coder,
                       loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                       loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(out_channels=width, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width, num_classes=num_classes)),
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=500, max_per_img=200),
                   rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='LargeScaleJitter', image_size=image_size, scale=(0.8, 1.25), resize_backend='cv2'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(image_size, image_size), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=batch, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05), clip_grad=dict(max_norm=5.0),
                     paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500))
