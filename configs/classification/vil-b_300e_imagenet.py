"""ViL-B (version 2) on ImageNet-1k from scratch."""

_base_ = 'vil-t_300e_imagenet.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.2), head=dict(in_channels=2 * 768))
