"""A small ViL on a folder of classes, from scratch on a CPU: 60 ep x 23 it = 1,380 it x 32 pictures."""

_base_ = 'vit-tiny_60e_plant-seedlings.py'

dim = 128

model = dict(
    # 8 x 8 tokens of 16 pixels
    backbone=dict(_delete_=True, type='VisionLSTM', arch=dict(dim=dim, depth=6), img_size=_base_.image_size,
                  stem='conv', stride=16, drop_path_rate=0.05, pooling='bilateral_flatten'),
    head=dict(_delete_=True, type='VisionLSTMClsHead', num_classes=len(_base_.classes), in_channels=2 * dim,
              loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
