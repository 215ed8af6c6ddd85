"""ViT-H with patches of 14 pixels from MAE's weights, fine-tuned on ImageNet-1k for 50 epochs (arXiv 2111.06377)."""

_base_ = 'vit-l_mae-50e_imagenet.py'

depth = 32  # layer i of L = 32: learning rate x 0.75 ** (33 - i)

model = dict(
    backbone=dict(arch='huge', patch_size=14, propagation_indexes=list(range(depth)), drop_path_rate=0.3,
                  init_cfg=dict(checkpoint='mae_h')),
    head=dict(in_channels=1280))
