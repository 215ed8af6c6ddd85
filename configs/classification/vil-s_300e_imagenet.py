"""ViL-S (version 2) on ImageNet-1k from scratch; bfloat16, as in the paper, with --amp bf16."""

_base_ = 'vil-t_300e_imagenet.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.05), head=dict(in_channels=2 * 384))
