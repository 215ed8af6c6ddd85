"""Backbones for small data sets: ``backbone=_base_.dinov2_s`` or ``backbone=dict(_base_.dinov2_s, …)`` in a config.

Without stochastic depth: in a short training, blocks that are dropped at random hinder the new layers from learning.
"""

frozen_blocks = 8  # of 12, with the embeddings; -1 trains all

# both have patches of 16 pixels and a width of 384; blocks 2, 5, 8, 11 are global
dinov2_s = dict(
    type='TimmViTDet',
    model='vit_small_patch14_dinov2',
    patch_size=16,  # the kernel of 14 x 14 is resampled
    window_size=14,  # tokens
    frozen_stages=frozen_blocks,
    init_cfg=dict(type='Pretrained', checkpoint='dinov2_s14'))
dinov3_s = dict(
    type='TimmViTDet',
    model='vit_small_patch16_dinov3_qkvb',
    window_size=14,
    frozen_stages=frozen_blocks,
    init_cfg=dict(type='Pretrained', checkpoint='dinov3_s16'))  # published under an agreement, see vitdet weights list
