"""YOLOv5's schedule on COCO: 300 epochs of 64 images per step, linear decay; AdamW, or SGD as YOLOv5 itself has it."""

# Schedule: 300 ep = 300 x 118,000 images = 553,125 it x 64 images
epochs, images, batch = 300, 118_000, 64  # 8 GPUs x 8 images
max_iters = epochs * images // batch
warmup_iters = 3 * images // batch  # 3 epochs
val_interval = 5 * images // batch

adamw = dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05)
sgd = dict(type='SGD', lr=0.01, momentum=0.937, nesterov=True, weight_decay=5e-4)
# no weight decay on norms of any kind, gamma and biases
optim_wrapper = dict(
    type='OptimWrapper', constructor='ParameterKindConstructor', optimizer=adamw, clip_grad=dict(max_norm=10.0))
auto_scale_lr = dict(enable=False, base_batch_size=batch)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.01, by_epoch=False, begin=0, end=max_iters)]
bias_warmup = dict(type='BiasWarmupHook', iters=warmup_iters, bias_lr=0.0, momentum=None)
sgd_bias_warmup = dict(type='BiasWarmupHook', iters=warmup_iters, bias_lr=0.1, momentum=0.8)
average = dict(
    type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, gamma=2000, update_buffers=True, priority=49)
# the same for some 1,000 iterations
short_bias_warmup = dict(type='BiasWarmupHook', iters=100, bias_lr=0.0, momentum=None)
short_average = dict(
    type='EMAHook', ema_type='ExpMomentumEMA', momentum=5e-3, gamma=200, update_buffers=True, priority=49)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
