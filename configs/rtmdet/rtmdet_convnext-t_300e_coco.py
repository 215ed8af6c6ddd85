"""ConvNeXt-T in RTMDet-l, COCO, 300 epochs: a proposal, not trained here."""

_base_ = 'mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py'

custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
data_root = '{{$VITDET_DATA:data}}/coco/'
max_epochs = 300

model = dict(
    data_preprocessor=dict(  # RGB, as the weights of the backbone
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ConvNeXtBackbone',
        arch='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        layer_scale_init_value=1.0,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_1k_224_ema')),
    neck=dict(in_channels=[192, 384, 768]))

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# AdamW 1e-3 for 256 images, as mmdet's RTMDet with ConvNeXt-B; layer i of L = 6: x 0.8 ** (7 - i)
optim_wrapper = dict(
    constructor='LayerWiseDecayConstructor', optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.8))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='ConstantLR', factor=1.0, begin=1, end=max_epochs // 2, by_epoch=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.05, begin=max_epochs // 2, end=max_epochs, T_max=max_epochs // 2,
         by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(type='ProgressHook', interval=50), checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
