"""ViT-L and ViT-H as changes of ViTDet's ViT-B: ``backbone=dict(drop_path_rate=…, **_base_.vit_large)`` in a config."""

large_dim, huge_dim = 1024, 1280

vit_large = dict(
    arch='large',  # width 1024, 24 blocks, 16 heads; global blocks 5, 11, 17, 23
    with_cp=True,  # for 8 images per GPU; False is faster if memory allows (reference: 64 GPUs, one image each)
    init_cfg=dict(checkpoint='mae_l'))
vit_huge = dict(
    arch='huge',  # width 1280, 32 blocks, 16 heads; global blocks 7, 15, 23, 31
    with_cp=True,
    # MAE's ViT-H has patches of 14 pixels: the kernel is resized to 16, the grid from 16 x 16 to 14 x 14
    init_cfg=dict(checkpoint='mae_h'))
