"""VOLO-D4 on ImageNet-1k: size, learning rate and drop path differ from D1."""

_base_ = 'volo-d1_310e_imagenet.py'

model = dict(
    backbone=dict(arch='d4', drop_path_rate=0.5),
    head=dict(in_channels=768, num_heads=16))

optim_wrapper = dict(optimizer=dict(lr=1e-3))
