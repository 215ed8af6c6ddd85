"""InternImage-S on ImageNet-1k, 300 epochs."""

_base_ = 'internimage-t_300e_imagenet.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.4), head=dict(in_channels=640))
