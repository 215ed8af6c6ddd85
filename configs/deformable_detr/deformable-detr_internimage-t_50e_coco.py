"""InternImage-T, Deformable DETR with box refinement and two stages, COCO, 50 epochs: a proposal, not trained here."""

_base_ = 'mmdet::deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py'

custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
data_root = '{{$VITDET_DATA:data}}/coco/'

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='InternImage',
        arch='tiny',
        out_indices=(1, 2, 3),
        layer_scale=1.0,  # the classification weights of T have none; 1.0 has no effect
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_t_1k_224')),
    neck=dict(in_channels=[128, 256, 512]))

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# mmdet's recipe: AdamW 2e-4, a tenth of it for the backbone and for sampling offsets; 32 images per step
optim_wrapper = dict(constructor='LayerWiseDecayConstructor')
default_hooks = dict(logger=dict(type='ProgressHook', interval=50), checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
