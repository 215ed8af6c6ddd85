"""ConvNeXt-S on ImageNet-1k from scratch."""

_base_ = 'convnext-t_300e_imagenet.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.4))
