"""A small ViT on a folder of classes, from scratch on a CPU: 50 ep x 45 it = 2,250 it x 16 images."""

_base_ = '../_base_/plant-seedlings_50e.py'

dim, depth = 128, 6

model = dict(
    # 8 x 8 tokens of 16 pixels
    backbone=dict(type='ViTDet', arch=dict(embed_dim=dim, depth=depth, num_heads=4), img_size=_base_.image_size,
                  patch_size=16, propagation='global', propagation_indexes=list(range(depth)), use_rel_pos=True,
                  drop_path_rate=0.05, pretrain_img_size=_base_.image_size, pretrain_use_cls_token=False,
                  # narrow layers learn faster from larger initial weights than a ViT's 0.02
                  init_cfg=dict(type='Xavier', distribution='uniform', layer='Linear')),
    head=dict(type='LayerNormClsHead', in_channels=dim))
