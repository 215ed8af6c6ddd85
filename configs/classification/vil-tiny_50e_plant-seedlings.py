"""A small ViL on a folder of classes, from scratch on a CPU: 50 ep x 45 it = 2,250 it x 16 pictures.

The head reads the mean of all tokens: of so few pictures that is learned sooner than the published pooling, which reads
the two end tokens (``pooling='bilateral_flatten'`` with ``VisionLSTMClsHead``).
"""

_base_ = 'vit-tiny_50e_plant-seedlings.py'

model = dict(
    # 8 x 8 tokens of 16 pixels
    backbone=dict(_delete_=True, type='VisionLSTM', arch=dict(dim=_base_.dim, depth=4), img_size=_base_.image_size,
                  drop_path_rate=0.05))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
