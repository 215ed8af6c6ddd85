"""ViT-L from MAE's weights, fine-tuned on ImageNet-1k for 50 epochs (arXiv 2111.06377, appendix A.1)."""

_base_ = 'vit-b_mae-100e_imagenet.py'

depth = 24
epochs, warmup = 50, 5
lr = 1e-3 * _base_.batch / 256  # 4e-3

model = dict(
    backbone=dict(arch='large', propagation_indexes=list(range(depth)), drop_path_rate=0.2,
                  init_cfg=dict(checkpoint='mae_l')),
    head=dict(in_channels=1024))

# layer i of L = 24: learning rate x 0.75 ** (25 - i)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75), optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup,
         eta_min_ratio=1e-6 / lr, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
