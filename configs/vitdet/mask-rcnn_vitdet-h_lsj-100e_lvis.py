"""ViTDet-H, Mask R-CNN, LVIS, 100 epochs."""

_base_ = 'mask-rcnn_vitdet-b_lsj-100e_lvis.py'

model = dict(
    backbone=dict(
        arch='huge',  # width 1280, 32 blocks, 16 heads; global blocks 7, 15, 23, 31
        drop_path_rate=0.4,
        with_cp=True,  # for 8 images a GPU; False is faster where memory allows (reference: 64 GPUs, one image each)
        # MAE's ViT-H has patches of 14 pixels: the kernel is resized to 16, the grid from 16 x 16 to 14 x 14
        init_cfg=dict(checkpoint='checkpoints/mae_pretrain_vit_huge.pth')),
    neck=dict(in_channels=1280))

# layer i of L = 32 learns at 0.9 ** (33 - i) of the rate, which is half of what B and L take
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=0.9))
