"""Reference for DCNv3, as in the official PyTorch form: padded input, all sampling points and all samples at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ops_dcnv3.geometry import Geometry


def reference_dcnv3(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """One ``grid_sample`` for all taps. Shapes as in :func:`ops_dcnv3.dcnv3`; no ``remove_center``."""
    g = geometry
    x = F.pad(input, (0, 0, g.pad_w, g.pad_w, g.pad_h, g.pad_h))
    batch, height, width, channels = x.shape
    out_h, out_w, taps = *offset.shape[1:3], g.num_taps
    # all coordinates in fractions of the padded input, with pixel centers at half numbers
    size = torch.tensor([width, height], dtype=torch.float32)
    first = torch.tensor([(g.dilation_w * (g.kernel_w - 1)) // 2, (g.dilation_h * (g.kernel_h - 1)) // 2]) + 0.5
    rows = torch.arange(out_h, dtype=torch.float32) * g.stride_h + first[1]
    columns = torch.arange(out_w, dtype=torch.float32) * g.stride_w + first[0]
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing='ij')
    centers = torch.stack((grid_x, grid_y), -1).reshape(1, out_h, out_w, 1, 2) / size
    cells = [((i * g.dilation_w - (g.dilation_w * (g.kernel_w - 1)) // 2),
              (j * g.dilation_h - (g.dilation_h * (g.kernel_h - 1)) // 2))
             for i in range(g.kernel_w) for j in range(g.kernel_h)]
    kernel = torch.tensor(cells, dtype=torch.float32).repeat(g.group, 1).reshape(1, 1, 1, g.group * taps, 2) / size
    positions = (centers + kernel * g.offset_scale).repeat(batch, 1, 1, 1, 1).flatten(3)
    positions = positions + offset * g.offset_scale / size.repeat(g.group * taps)
    grid = (2 * positions - 1).view(batch, out_h * out_w, g.group, taps, 2).transpose(1, 2).flatten(0, 1)
    values = x.view(batch, height * width, channels).transpose(1, 2).reshape(
        batch * g.group, g.group_channels, height, width)
    samples = F.grid_sample(values, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
    weights = mask.view(batch, out_h * out_w, g.group, taps).transpose(1, 2).reshape(
        batch * g.group, 1, out_h * out_w, taps)
    out = (samples * weights).sum(-1).view(batch, channels, out_h * out_w)
    return out.transpose(1, 2).reshape(batch, out_h, out_w, channels).contiguous()
