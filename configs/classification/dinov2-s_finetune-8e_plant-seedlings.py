"""DINOv2's ViT-S fine-tuned on a folder of classes, layer-wise rates: 8 ep x 45 it = 360 it x 16 images.

It starts from the classifier of dinov2-s_probe-30e_plant-seedlings.py: --load-from its work directory.
"""

_base_ = 'dinov2-s_partial-8e_plant-seedlings.py'

model = dict(backbone=dict(frozen_stages=-1))
# block 11 has 0.65 of the rate, block 0 0.006
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
