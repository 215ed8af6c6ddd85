"""InternImage-L, DINO, Objects365 V2, 12 epochs: a proposal after the recipe on COCO, not trained here."""

_base_ = ['../_base_/models/dino_4scale.py', '../_base_/datasets/objects365.py', '../_base_/schedules/dino_coco_1x.py',
          '../_base_/runtime.py']

decay, layers = 0.9, 5 + 5 + 22 + 5

# Schedule: 12 ep = 12 x 1,742,000 images = 326,625 it x 64 images
epochs, images, batch = 12, 1_742_000, 64  # 32 GPUs x 2 images
max_iters, val_interval = epochs * images // batch, images // batch
milestones = [max_iters * 11 // epochs]

model = dict(
    backbone=dict(
        type='InternImage',
        arch='large',
        out_indices=(1, 2, 3),
        layer_scale=1.0,
        drop_path_rate=0.4,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_l_22k_192to384')),
    neck=dict(in_channels=[320, 640, 1280]),
    bbox_head=dict(num_classes=_base_.num_classes))

# layer i of L = 37: learning rate x 0.9 ** (38 - i); the rate of COCO's 16 images x sqrt(64 / 16)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay_rate=decay, custom_keys=dict(
    level_embed=dict(lr_mult=decay ** (layers + 1)), sampling_offsets=dict(decay_mult=0.0))))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
