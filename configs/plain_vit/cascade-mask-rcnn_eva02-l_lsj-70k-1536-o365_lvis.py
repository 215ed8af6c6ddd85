"""EVA-02-L from Objects365, Cascade Mask R-CNN, LVIS, 70,000 iterations at 1536 pixels (``eva02_L_lvis_sys_o365``).

The published file holds averaged weights under ``model_ema``, which are read.
"""

_base_ = 'cascade-mask-rcnn_eva02-l_lsj-40k-1536_lvis.py'

model = dict(
    backbone=dict(
        window_size=16,
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='eva02_l_in21k_to_o365')))  # only its backbone; use load_from for all of it

# 70,000 it x 64 images, constant learning rate
batch, max_iters, warmup = 64, 70_000, 400
train_dataloader = dict(batch_size=8)  # 8 GPUs x 8 images
optim_wrapper = dict(optimizer=dict(lr=4e-5))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
                   dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=warmup, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4, update_buffers=True)]
