"""ConvNeXt-B on ImageNet-1k from scratch."""

_base_ = 'convnext-t_300e_imagenet.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=1024))
