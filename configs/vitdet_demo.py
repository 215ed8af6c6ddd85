"""The demo: a small ViTDet Mask R-CNN for the CPU, trained on the demo set in minutes (`make demo`)."""

_base_ = 'vitdet_100e.py'

data_root = 'data/demo/'
classes = ('ball', 'ring', 'star', 'brick', 'leaf')
image_size = 160  # the pictures' longer side
crop_size = 128  # what training sees of them
batch, max_iters = 8, 1000  # over all ranks: 8,000 pictures
width = 64  # channels of the pyramid and the heads

norm_cfg = _base_.norm_cfg
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ViTDet',
        arch=dict(embed_dim=128, depth=6, num_heads=4),
        img_size=image_size,
        patch_size=8,  # 20 x 20 tokens
        window_size=5,
        drop_path_rate=0.0,
        pretrain_img_size=image_size,
        pretrain_use_cls_token=False,
        # made by tools/pretrain_demo.py on other pictures; the full recipe starts from MAE in the same way
        init_cfg=dict(type='Pretrained', checkpoint='{{ fileDirname }}/../demo/vitdet_demo_pretrained.safetensors')),
    # tokens have stride 8: strides 4, 8, 16, 32, 64
    neck=dict(in_channels=128, out_channels=width, scale_factors=(2.0, 1.0, 0.5, 0.25)),
    rpn_head=dict(in_channels=width, feat_channels=width, num_convs=1, anchor_generator=dict(scales=[3])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, finest_scale=28),
        bbox_head=dict(type='ConvFCBBoxHead', num_shared_convs=2, num_shared_fcs=1, in_channels=width,
                       conv_out_channels=width, fc_out_channels=256, num_classes=len(classes)),
        mask_roi_extractor=dict(out_channels=width, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width, num_classes=len(classes))),
    # few, but enough samples: the demo counts seconds
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)), rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200), rcnn=dict(score_thr=0.01)))

# scale 1.0 fits the longer side into crop_size: 0.9 to 1.4 times the pictures' own size
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='LargeScaleJitter', image_size=crop_size, scale=(1.12, 1.75), resize_backend='cv2'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.4),  # as large as training sees them
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
loading = dict(num_workers=0, persistent_workers=False)  # a picture takes a millisecond
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=batch, **loading,
    dataset=dict(ann_file='annotations/train.json', data_prefix=dict(img='train/'), pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=1, **loading,
    dataset=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/'), pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(lr=1.5e-3, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, T_max=max_iters - 50, eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, save_best=None))
randomness = dict(seed=0)
