"""DINOv2's ViT-S adapted to a folder of classes by LoRA, rank 8 in every block: 8 ep x 45 it = 360 it x 16 images.

It starts from the classifier of dinov2-s_probe-30e_plant-seedlings.py: --load-from its work directory.
"""

_base_ = 'dinov2-s_partial-8e_plant-seedlings.py'

model = dict(backbone=dict(frozen_stages=-1, lora=dict(rank=8)))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=5e-4))
