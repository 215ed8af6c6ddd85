"""A small DINO for the CPU on the demo set: the demo's ViTDet with its weights, 1 + 3 layers, 60 queries."""

_base_ = ['models/dino_4scale.py', 'datasets/demo_lsj.py', 'schedules/demo.py', 'runtime.py']

dim, width, levels, layers = 128, 64, 3, 3  # layers of the decoder; the encoder has one, which learns in fewer steps
image_size = _base_.demo_side
max_iters, warmup = 1000, 50  # 1,000 it x 8 images, all ranks together
crop_size = 160  # a whole image, as in an evaluation: a DETR predicts boxes relative to its input

boxes_only = dict(type='LoadAnnotations', with_bbox=True)
jitter = dict(_base_.jitter, image_size=crop_size, scale=(0.9, 1.4))  # 0.9 to 1.4 times the original size
train_pipeline = [_base_.load_image, boxes_only, jitter, _base_.pack_train]
resize_test = dict(type='Resize', scale_factor=1.4)  # merged, _base_.resize has coco_lsj's scale=(1024, 1024) too
# whole patches, as in training: boxes are relative to the image, and a part of a patch would stretch them
pad = dict(type='Pad', size_divisor=8, pad_val=dict(img=(124, 116, 104)))
test_pipeline = [_base_.load_image, resize_test, pad, boxes_only, _base_.pack_test]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator

sampler = dict(embed_dims=width, num_levels=levels)
feed_forward = dict(embed_dims=width, feedforward_channels=4 * width)
model = dict(
    num_queries=60,
    num_feature_levels=levels,
    backbone=dict(
        type='ViTDet', arch=dict(embed_dim=dim, depth=6, num_heads=4), img_size=image_size, patch_size=8,
        window_size=5, drop_path_rate=0.0, pretrain_img_size=image_size, pretrain_use_cls_token=False,
        init_cfg=dict(type='Pretrained', checkpoint='{{ fileDirname }}/../../demo/vitdet_demo_pretrained.safetensors')),
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=dim, out_channels=width,
              scale_factors=(1.0, 0.5, 0.25), num_outs=levels),  # strides 8, 16, 32
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=sampler, ffn_cfg=feed_forward)),
    decoder=dict(num_layers=layers, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=width), cross_attn_cfg=sampler, ffn_cfg=feed_forward)),
    positional_encoding=dict(num_feats=width // 2),
    bbox_head=dict(embed_dims=width, loss_cls=dict(loss_weight=2.0), num_classes=len(_base_.demo_classes)),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=40)),
    # six queries learn each object, and NMS removes the duplicates: the training has few steps
    train_cfg=dict(assigner=dict(type='RepeatedHungarianAssigner', copies=6)),
    test_cfg=dict(max_per_img=100, nms=dict(type='nms', iou_threshold=0.5)))

optim_wrapper = dict(optimizer=dict(lr=8e-4, weight_decay=1e-4), clip_grad=dict(max_norm=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, T_max=max_iters - warmup,
         eta_min_ratio=0.01),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20),
                     checkpoint=dict(by_epoch=False, interval=max_iters, save_best=None))
randomness = dict(seed=0)
