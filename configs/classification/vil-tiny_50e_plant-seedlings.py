"""A small ViL on a folder of classes, from scratch on a CPU: 50 ep x 45 it = 2,250 it x 16 images.

The head averages all tokens: with so few images this is learned faster than the published pooling, which reads the two
end tokens (``pooling='bilateral_flatten'`` with ``VisionLSTMClsHead``).
"""

_base_ = '../_base_/plant-seedlings_50e.py'

dim = 128

model = dict(
    # 8 x 8 tokens of 16 pixels
    backbone=dict(type='VisionLSTM', arch=dict(dim=dim, depth=4), img_size=_base_.image_size, drop_path_rate=0.05),
    head=dict(type='LayerNormClsHead', in_channels=dim))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
