"""InternImage-B on ImageNet-1k, 300 epochs."""

_base_ = 'internimage-t_300e_imagenet.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=896))
