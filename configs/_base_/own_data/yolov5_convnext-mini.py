"""A small ConvNeXt in YOLOv5, for own data on a CPU, from scratch."""

_base_ = ['yolov5.py', '../models/convnext_mini.py']

widths = [64, 96, 128]
model = dict(
    backbone=dict(out_indices=(1, 2, 3), **_base_.convnext_mini),
    neck=dict(type='YOLOv5PAFPN', in_channels=_base_.mini_dims[1:], out_channels=widths, num_csp_blocks=1),
    bbox_head=dict(in_channels=widths))

# no weight decay on norms of any kind, gamma and biases
optim_wrapper = dict(constructor='ParameterKindConstructor', paramwise_cfg=None, optimizer=dict(lr=2e-3),
                     clip_grad=dict(max_norm=10.0))
