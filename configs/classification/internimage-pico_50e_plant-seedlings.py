"""A small InternImage on a folder of classes, from scratch on a CPU: 50 ep x 45 it = 2,250 it x 16 images."""

_base_ = '../_base_/plant-seedlings_50e.py'

channels = 24  # of the first level

model = dict(
    backbone=dict(type='InternImage', out_indices=(3,), layer_scale=1.0,
                  arch=dict(channels=channels, depths=(1, 1, 3, 1), groups=(2, 4, 8, 16)), drop_path_rate=0.05),
    head=dict(type='InternImageClsHead', in_channels=8 * channels))
