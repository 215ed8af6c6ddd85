"""EVA-02-B, Cascade Mask R-CNN, LVIS, 50,000 iterations at 1024 pixels, federated loss (``eva02_B_lvis_bsl``)."""

_base_ = ['../vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_lvis.py', '../_base_/models/eva02.py']

model = dict(backbone=dict(_delete_=True, **_base_.eva02_base))

# 50,000 it x 128 images; the learning rate x 0.1 after 80 % and again after 90 %
batch, max_iters, warmup = 128, 50_000, 1000
milestones = [max_iters * 8 // 10, max_iters * 9 // 10]
train_dataloader = dict(batch_size=16)  # 8 GPUs x 16 images
optim_wrapper = dict(paramwise_cfg=dict(no_decay='none'), optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=batch)
param_scheduler = [
    dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=2500)
default_hooks = dict(checkpoint=dict(interval=2500))
