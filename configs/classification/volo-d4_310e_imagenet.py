"""VOLO-D4 on ImageNet-1k, as D1 but for its size, learning rate and drop path."""

_base_ = 'volo-d1_310e_imagenet.py'

model = dict(
    backbone=dict(arch='d4', drop_path_rate=0.5),
    head=dict(in_channels=768, num_heads=16))

optim_wrapper = dict(optimizer=dict(lr=1e-3))
