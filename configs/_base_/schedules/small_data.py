"""Fine-tuning on a small data set: AdamW, a low rate for the backbone, warm-up, cosine; logging and checkpoints."""

_base_ = ['vitdet_100e.py', '../runtime.py']

max_iters, warmup, batch = 240, 20, 4
val_interval = max_iters // 3

# block i of 12: learning rate x 0.05 x 0.7 ** (12 - i), so 3.5e-5 for the last one and 1.2e-5 for block 8
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='auto',  # bf16 with such instructions, otherwise fp16 on a GPU and float32 on a CPU
    paramwise_cfg=dict(layer_decay_rate=0.7, backbone_lr_mult=0.05, no_decay='plain'),
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=batch)

warm_up = dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup)
cosine = dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=max_iters, eta_min_ratio=0.01)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=val_interval))
