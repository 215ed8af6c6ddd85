"""A small VOLO on a folder of classes, from scratch on a CPU: 45 ep x 45 it = 2,025 it x 16 pictures.

With VOLO's second loss, for which every place has the picture's label (token labelling without token labels).
"""

_base_ = 'vit-tiny_50e_plant-seedlings.py'

epochs, warmup = 45, 5
dim = 64  # of the outlookers (16 x 16 places of 8 pixels); twice that in the transformer blocks (8 x 8)
heads, mlp_ratio = 4, 2

model = dict(
    backbone=dict(
        _delete_=True,
        type='VOLO',
        arch=dict(layers=(2, 1, 2, 1), embed_dims=(dim, 2 * dim, 2 * dim, 2 * dim), num_heads=(2, heads, heads, heads),
                  mlp_ratios=(mlp_ratio,) * 4, stem_hidden_dim=16),
        img_size=_base_.image_size,
        drop_path_rate=0.05),
    head=dict(
        _delete_=True,
        type='VOLOClsHead',
        num_classes=len(_base_.classes),
        in_channels=2 * dim,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        dense=True,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=epochs, T_max=epochs - warmup, eta_min_ratio=0.01,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
