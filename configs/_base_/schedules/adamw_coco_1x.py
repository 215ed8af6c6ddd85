"""Schedule of InternImage and ConvNeXt on COCO: AdamW, 12 epochs, 16 images per step, rate / 10 at epochs 8 and 11."""

# Schedule: 12 ep = 12 x 118,000 images = 88,500 it x 16 images
epochs, images, batch = 12, 118_000, 16  # 8 GPUs x 2 images
max_iters = epochs * images // batch
milestones = [max_iters * epoch // epochs for epoch in (8, 11)]
val_interval = images // batch  # an epoch

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
auto_scale_lr = dict(enable=False, base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
