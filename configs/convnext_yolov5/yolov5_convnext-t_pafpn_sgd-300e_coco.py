"""ConvNeXt-T in YOLOv5, COCO, 300 epochs of mosaics, SGD: YOLOv5's own recipe."""

_base_ = ['../_base_/datasets/coco_yolov5.py', '../_base_/runtime.py']

# Schedule: 300 ep = 300 x 118,000 images = 553,125 it x 64 images
epochs, images, batch = 300, 118_000, 64  # 8 GPUs x 8 images
max_iters = epochs * images // batch
warmup_iters = 3 * images // batch  # 3 epochs
val_interval = 5 * images // batch
img_size = _base_.img_size

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # ImageNet's, which ConvNeXt's weights expect
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(
        type='ConvNeXtBackbone',
        arch='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convnext_tiny_22k_1k_224.pth')),
    neck=dict(type='YOLOv5PAFPN', in_channels=[192, 384, 768], out_channels=[192, 384, 384], num_csp_blocks=1),
    bbox_head=dict(
        type='YOLOv5Head',
        num_classes=80,
        in_channels=[192, 384, 384],
        anchors=[[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)], [(116, 90), (156, 198), (373, 326)]],
        strides=[8, 16, 32],
        gains=dict(box=0.05, cls=0.5, obj=1.0),
        img_size=img_size),
    # evaluation; for use choose score_thr=0.25, iou_threshold=0.45, multi_label=False
    test_cfg=dict(score_thr=0.001, iou_threshold=0.65, multi_label=True, nms_pre=30000, max_per_img=300))

# SGD with Nesterov's momentum; norms of every kind, gamma and biases do not decay
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ParameterKindConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.937, nesterov=True, weight_decay=5e-4),
    clip_grad=dict(max_norm=10.0))
auto_scale_lr = dict(enable=False, base_batch_size=batch)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=0, end=max_iters)]
custom_hooks = [
    dict(type='AutoAnchorHook', img_size=img_size),
    dict(type='BiasWarmupHook', iters=warmup_iters, bias_lr=0.1, momentum=0.8),
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, gamma=2000, update_buffers=True, priority=49),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
