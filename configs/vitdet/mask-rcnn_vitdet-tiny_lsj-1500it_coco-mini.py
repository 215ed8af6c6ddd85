"""A small ViTDet for the CPU on a data set in COCO format with small images and 80 classes."""

_base_ = ['../_base_/models/mask-rcnn_sfp_tiny.py', '../_base_/datasets/coco_lsj.py', '../_base_/datasets/coco_mini.py',
          '../_base_/schedules/demo.py', '../_base_/runtime.py']

data_root = _base_.coco_mini_root
image_size = 256
batch, max_iters, warmup = 4, 1500, 100
milestones = [round(max_iters * part) for part in (8 / 9, 26 / 27)]
dim = 128

model = dict(
    data_preprocessor=dict(pad_size_divisor=image_size),
    # 6 blocks on 32 x 32 tokens of 8 pixels, from the demo's weights (without class token)
    backbone=dict(type='ViTDet', arch=dict(embed_dim=dim, depth=6, num_heads=4), img_size=image_size, patch_size=8,
                  window_size=8, drop_path_rate=0.0, pretrain_img_size=image_size, pretrain_use_cls_token=False,
                  init_cfg=dict(type='Pretrained', checkpoint=
                                '{{ fileDirname }}/../../demo/vitdet_demo_pretrained.safetensors')),
    neck=dict(in_channels=dim),
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    train_cfg=dict(rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(nms_pre=500, max_per_img=200),
                   rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500)))

load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
jitter = dict(type='LargeScaleJitter', image_size=image_size, scale=(0.8, 1.25), resize_backend='cv2')
resize = dict(type='Resize', scale=(image_size, image_size), keep_ratio=True)
train_pipeline = [_base_.load_image, load_annotations, jitter, _base_.pack_train]
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
train_dataloader = dict(batch_size=batch, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + _base_.val_file)
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=500))
