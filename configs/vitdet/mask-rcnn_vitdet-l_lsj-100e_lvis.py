"""ViTDet-L, Mask R-CNN, LVIS, 100 epochs."""

_base_ = 'mask-rcnn_vitdet-b_lsj-100e_lvis.py'

model = dict(
    backbone=dict(
        arch='large',  # width 1024, 24 blocks, 16 heads; global blocks 5, 11, 17, 23
        drop_path_rate=0.4,
        with_cp=True,  # for 8 images a GPU; False is faster where memory allows (reference: 64 GPUs, one image each)
        init_cfg=dict(checkpoint='checkpoints/mae_pretrain_vit_large.pth')),
    neck=dict(in_channels=1024))

# layer i of L = 24 learns at 0.8 ** (25 - i) of the rate
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
