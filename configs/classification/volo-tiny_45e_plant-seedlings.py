"""A small VOLO on a folder of classes, from scratch on a CPU: 45 ep x 45 it = 2,025 it x 16 images.

With VOLO's second loss, in which every token has the image's label (token labeling without token labels).
"""

_base_ = '../_base_/plant-seedlings_50e.py'

epochs, warmup = 45, 5
dim = 64  # of the outlookers (16 x 16 tokens of 8 pixels); twice that in the transformer blocks (8 x 8)
heads, mlp_ratio = 4, 2

model = dict(
    backbone=dict(
        type='VOLO',
        arch=dict(layers=(2, 1, 2, 1), embed_dims=(dim, 2 * dim, 2 * dim, 2 * dim), num_heads=(2, heads, heads, heads),
                  mlp_ratios=(mlp_ratio,) * 4, stem_hidden_dim=16),
        img_size=_base_.image_size,
        drop_path_rate=0.05),
    head=dict(type='VOLOClsHead', in_channels=2 * dim, num_heads=heads, mlp_ratio=mlp_ratio, dense=True))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
