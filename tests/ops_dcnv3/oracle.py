"""DCNv3 by torchvision's deform_conv2d, and random inputs whose sampling points are not at whole pixels."""

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from ops_dcnv3.backends import unavailable
from ops_dcnv3.geometry import Geometry

BACKENDS = [name for name in ('cpu', 'pytorch') if not unavailable(name)]


def geometry(kernel=(3, 3), stride=(1, 1), pad=(1, 1), dilation=(1, 1), group=2, group_channels=4, offset_scale=1.0,
             remove_center=False) -> Geometry:
    return Geometry(*kernel, *stride, *pad, *dilation, group, group_channels, offset_scale, remove_center)


def call(op, tensors, geo: Geometry, **kwargs) -> Tensor:
    *numbers, remove_center = geo
    return op(*tensors, *numbers, remove_center=remove_center, **kwargs)


def random_inputs(geo: Geometry, batch=2, size=(7, 6), dtype=torch.float64, seed=0, spread=3) -> list[Tensor]:
    """Return input, offset, mask. Samples are at k + [0.1, 0.9], some of them outside, where derivatives exist."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    out = geo.out_size(height, width)
    points = geo.group * geo.num_taps
    x = torch.randn(batch, height, width, geo.group * geo.group_channels, generator=generator, dtype=torch.float64)
    whole = torch.randint(-spread, spread + 1, (batch, *out, points, 2), generator=generator)
    point = whole + 0.1 + 0.8 * torch.rand(whole.shape, generator=generator, dtype=torch.float64)
    point += torch.tensor([[o * geo.stride_w for o in range(out[1])]]).reshape(1, 1, -1, 1, 1) * torch.tensor([1., 0.])
    point += torch.tensor([[o * geo.stride_h for o in range(out[0])]]).reshape(1, -1, 1, 1, 1) * torch.tensor([0., 1.])
    # the offset of this point
    offset = (point - starting_points(geo, out)) / geo.offset_scale
    mask = torch.rand(batch, *out, points, generator=generator, dtype=torch.float64)
    return [t.to(dtype) for t in (x, offset.flatten(-2), mask)]


def starting_points(geo: Geometry, out: tuple[int, int]) -> Tensor:
    """Return x and y of every sampling point without offset, by the formula: (1, Ho, Wo, group * P, 2)."""
    scale = geo.offset_scale
    cells = [(i, j) for i in range(geo.kernel_w) for j in range(geo.kernel_h)]
    if geo.remove_center:
        cells.remove((geo.kernel_w // 2, geo.kernel_h // 2))
    points = torch.zeros(1, *out, geo.group, len(cells), 2, dtype=torch.float64)
    for row in range(out[0]):
        for column in range(out[1]):
            for k, (i, j) in enumerate(cells):
                center_x, center_y = geo.dilation_w * (geo.kernel_w - 1) >> 1, geo.dilation_h * (geo.kernel_h - 1) >> 1
                x = column * geo.stride_w - geo.pad_w + center_x * (1 - scale) + i * geo.dilation_w * scale
                y = row * geo.stride_h - geo.pad_h + center_y * (1 - scale) + j * geo.dilation_h * scale
                points[0, row, column, :, k] = torch.tensor([x, y], dtype=torch.float64)
    return points.flatten(3, 4)


def torchvision_dcnv3(x: Tensor, offset: Tensor, mask: Tensor, geo: Geometry) -> Tensor:
    """Depthwise deform_conv2d with weights of one; its taps run along rows and its offsets are (y, x)."""
    batch, out_h, out_w = mask.shape[:3]
    offset = offset.reshape(batch, out_h, out_w, geo.group, -1, 2)
    mask = mask.reshape(batch, out_h, out_w, geo.group, -1)
    center = (geo.kernel_h * geo.kernel_w) // 2
    if geo.remove_center:
        offset = torch.cat([offset[..., :center, :], torch.zeros_like(offset[..., :1, :]), offset[..., center:, :]], -2)
        mask = torch.cat([mask[..., :center], torch.zeros_like(mask[..., :1]), mask[..., center:]], -1)
    scale, shifts, order = geo.offset_scale, [], []
    for j in range(geo.kernel_h):
        for i in range(geo.kernel_w):
            center_x, center_y = geo.dilation_w * (geo.kernel_w - 1) >> 1, geo.dilation_h * (geo.kernel_h - 1) >> 1
            shifts.append([center_y * (1 - scale) + j * geo.dilation_h * (scale - 1),
                           center_x * (1 - scale) + i * geo.dilation_w * (scale - 1)])
            order.append(i * geo.kernel_h + j)
    offset = offset[..., order, :].flip(-1) * scale + torch.tensor(shifts, dtype=x.dtype)
    offset = offset.permute(0, 3, 4, 5, 1, 2).reshape(batch, -1, out_h, out_w)
    mask = mask[..., order].permute(0, 3, 4, 1, 2).reshape(batch, -1, out_h, out_w)
    channels = x.shape[-1]
    out = deform_conv2d(x.permute(0, 3, 1, 2), offset, torch.ones(channels, 1, *geo[:2], dtype=x.dtype), None,
                        (geo.stride_h, geo.stride_w), (geo.pad_h, geo.pad_w), (geo.dilation_h, geo.dilation_w), mask)
    return out.permute(0, 2, 3, 1)
