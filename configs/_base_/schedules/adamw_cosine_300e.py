"""AdamW for 300 epochs: 20 epochs of linear warm-up, then half a cosine; the rate changes in every iteration."""

epochs, warmup, batch = 300, 20, 1024  # batch: 8 GPUs x 128 images

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'),
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05))
auto_scale_lr = dict(enable=False, base_batch_size=batch)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=1e-3,
         convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
