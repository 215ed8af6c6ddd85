"""InternImage-T, FCOS, COCO, 12 epochs: a proposal, not trained here."""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
data_root = '{{$VITDET_DATA:data}}/coco/'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='InternImage',
        arch='tiny',
        layer_scale=1.0,  # the classification weights of T have none; 1.0 has no effect
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_t_1k_224')),
    neck=dict(in_channels=[64, 128, 256, 512]))

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# InternImage's schedule of Mask R-CNN: AdamW 1e-4, 16 images per step, rate / 10 at epochs 8 and 11
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(no_decay='plain'),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
default_hooks = dict(logger=dict(type='ProgressHook', interval=50), checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
