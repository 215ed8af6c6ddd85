"""InternImage-XL from ImageNet-22k's weights, fine-tuned on ImageNet-1k at 384 x 384 for 20 epochs."""

_base_ = 'internimage-l_20e_imagenet-384.py'

model = dict(
    backbone=dict(arch='xlarge', drop_path_rate=0.2),
    head=dict(in_channels=1536))
load_from = 'internimage_xl_22k_192to384'
