"""VOLO-D3 on ImageNet-1k: size, learning rate and drop path differ from D1."""

_base_ = 'volo-d1_310e_imagenet.py'

model = dict(
    backbone=dict(arch='d3', drop_path_rate=0.5),
    head=dict(in_channels=512, num_heads=16))

optim_wrapper = dict(optimizer=dict(lr=1e-3))
