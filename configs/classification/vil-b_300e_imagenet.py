"""ViL-B (version 2) on ImageNet-1k from scratch; bfloat16, as in the paper, with --amp bf16."""

_base_ = 'vil-t_300e_imagenet.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.2), head=dict(in_channels=2 * 768))
