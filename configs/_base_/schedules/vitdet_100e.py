"""ViTDet's schedule on COCO: AdamW, 100 epochs of 64 images per step, layer-wise learning rates."""

# Schedule: 100 ep = 100 x 118,000 images = 184,375 it x 64 images
epochs, images, batch = 100, 118_000, 64  # 8 GPUs x 8 images
max_iters = epochs * images // batch
milestones = [round(max_iters * part) for part in (8 / 9, 26 / 27)]  # 163,889 and 177,546
warmup = 250
val_interval = 5000

# layer i of L = 12: learning rate x 0.7 ** (13 - i)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='d2'),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1))
auto_scale_lr = dict(enable=False, base_batch_size=batch)

param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
