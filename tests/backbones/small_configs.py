"""Constructor arguments of a small model of each backbone."""

import copy

# Each has every kind of part of its backbone.
SMALL = {
    # two levels with maps, all of them in the assistant; added maps from the start
    'CBNet': dict(backbone=dict(type='InternImage', arch=dict(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)),
                                out_indices=(1, 3)), init_scale=0.1),
    # gamma, GRN and norms on two of the maps
    'ConvNeXtBackbone': dict(arch=dict(depths=(1, 1, 4, 1), dims=(8, 16, 24, 32), use_grn=True),
                             layer_scale_init_value=1.0, out_indices=(1, 3)),
    'InternImage': dict(arch=dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8)), res_post_norm=True,
                        center_feature_scale=True, dw_kernel_size=5, level2_post_norm_block_ids=(0,),
                        drop_path_rate=0.1),
    # class and register tokens, absolute and rotary positions, LayerScale, a windowed and a global block
    'TimmViTDet': dict(model=dict(family='Eva', embed_dim=32, depth=2, num_heads=2, num_reg_tokens=2, init_values=1.0,
                                  use_rot_pos_emb=True, rope_type='dinov3', rope_rotate_half=True, swiglu_mlp=True,
                                  global_pool='token'),
                       img_size=64, patch_size=16, window_size=2, global_block_indexes=[1]),
    # 6 x 6 tokens, which the windows do not divide; windowed, global, shifted and convolutional blocks
    'ViTDet': dict(arch=dict(embed_dim=32, depth=4, num_heads=2), img_size=96, window_size=4, pretrain_img_size=64,
                   propagation='none', global_block_indexes=[1], shifted_block_indexes=[2],
                   residual_block_indexes=[3]),
    'VisionLSTM': dict(arch=dict(dim=32, depth=4), img_size=64),
    # both kinds of blocks, a norm on every map, 3 x 5 positions
    'VOLO': dict(arch=dict(layers=(2, 1, 2, 1), embed_dims=(32, 48, 48, 48), num_heads=(2, 4, 4, 4),
                           mlp_ratios=(3, 3, 3, 2), stem_hidden_dim=4),
                 img_size=(48, 80), out_indices=(0, 1, 2), extra_level='conv'),
}


def small_cfg(cls: type) -> dict:
    """Return a copy of the arguments for ``cls``.

    A backbone without an entry is tested with the defaults of its constructor, which is slower.
    """
    return copy.deepcopy(SMALL.get(cls.__name__, {}))
