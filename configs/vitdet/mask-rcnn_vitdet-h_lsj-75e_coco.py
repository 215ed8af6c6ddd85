"""ViTDet-H, Mask R-CNN, COCO, 75 epochs."""

_base_ = '../vitdet_100e.py'

model = dict(
    backbone=dict(
        arch='huge',  # width 1280, 32 blocks, 16 heads; global blocks 7, 15, 23, 31
        drop_path_rate=0.5,
        with_cp=True,  # for 8 images a GPU; False is faster where memory allows (reference: 64 GPUs, one image each)
        # MAE's ViT-H has patches of 14 pixels: the kernel is resized to 16, the grid from 16 x 16 to 14 x 14
        init_cfg=dict(checkpoint='checkpoints/mae_pretrain_vit_huge.pth')),
    neck=dict(in_channels=1280))

# Schedule: 75 ep = 3/4 of 184,375 it = 138,281 it x 64 images, the same parts of it at each rate
max_iters = _base_.max_iters * 3 // 4
milestones = [milestone * 3 // 4 for milestone in _base_.milestones]  # 122,916 and 133,159

# layer i of L = 32 learns at 0.9 ** (33 - i) of the rate
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
