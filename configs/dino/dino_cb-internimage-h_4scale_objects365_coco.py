"""Two InternImage-H (CBNetV2) in DINO, trained on Objects365, then on COCO (arXiv 2211.05778, ``cbinternimage_h``).

20,000 it from the weights of Objects365, at a constant rate.
"""

_base_ = '../_base_/dino_4scale_1x_coco.py'

decay, layers = 0.94, 6 + 6 + 32 + 6
max_iters, val_interval, batch = 20_000, 200, 16  # 16 GPUs x 1 image; the reference does not state their number

model = dict(
    type='CBDetector',
    detector='DINO',
    assistant_weight=0.5,
    backbone=dict(
        type='CBNet',
        backbone=dict(type='InternImage', arch='huge', out_indices=(1, 2, 3), drop_path_rate=0.5, with_cp=True)),
    neck=dict(in_channels=[640, 1280, 2560]),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=1000)))
load_from = 'dino_cb-internimage-h_4scale_objects365-80classes'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=[(2000, 600), (2000, 1800)], keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2000, 1000), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# layer i of L = 50 in both: learning rate x 0.94 ** (51 - i). OpenGVLab's code does not recognize the names of the
# composite, so there all layers learned at 1e-4. The sampling offsets of the transformer hardly move.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=decay, custom_keys=dict(
    level_embed=dict(lr_mult=decay ** (layers + 1)), sampling_offsets=dict(lr_mult=1e-3, decay_mult=0.0))))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=500, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(interval=val_interval))
