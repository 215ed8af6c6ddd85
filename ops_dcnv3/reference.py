"""DCNv3 in PyTorch: runs on any device, exports to ONNX, and is used where no kernel is compiled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ops_dcnv3.geometry import Geometry
from vitdet_plugin.ops.dispatch import Backend


def dcnv3_pytorch(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """Compute one tap at a time, so that no tensor of all sampling points or all samples exists.

    Shapes as in :func:`ops_dcnv3.dcnv3`, already checked; tensors of different dtypes are converted to the widest.
    Coordinates have the dtype of the tensors, but float32 for float16 and bfloat16, whose 11 or 8 bits cannot
    represent the positions of a feature map; the result has the dtype of the (converted) input.
    """
    input, offset, mask = same_dtype(input, offset, mask)
    dtype = input.dtype
    if dtype in (torch.float16, torch.bfloat16):
        input, offset, mask = input.float(), offset.float(), mask.float()
    batch, height, width, _ = input.shape
    out_h, out_w = geometry.out_size(height, width)
    group, channels, taps = geometry.group, geometry.group_channels, geometry.num_taps
    value = input.reshape(batch, height, width, group, channels).permute(0, 3, 4, 1, 2)
    value = value.reshape(batch * group, channels, height, width)
    offset = offset.reshape(batch, out_h, out_w, group, taps, 2)
    mask = mask.reshape(batch, out_h, out_w, group, taps)
    columns = torch.arange(out_w, dtype=offset.dtype, device=offset.device) * geometry.stride_w
    rows = torch.arange(out_h, dtype=offset.dtype, device=offset.device) * geometry.stride_h

    out: Tensor | None = None
    for k, cell in enumerate(geometry.taps()):
        origin_x, origin_y = geometry.tap_origin(*cell)
        shift = offset[:, :, :, :, k].permute(0, 3, 1, 2, 4)  # (N, G, Ho, Wo, 2), last: x, y
        x = (columns + origin_x) + shift[..., 0] * geometry.offset_scale
        y = (rows + origin_y)[:, None] + shift[..., 1] * geometry.offset_scale
        grid = torch.stack((_normalize(x, width), _normalize(y, height)), -1).flatten(0, 1)
        sampled = F.grid_sample(value, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
        weights = mask[:, :, :, :, k].permute(0, 3, 1, 2).reshape(batch * group, 1, out_h, out_w)
        out = sampled * weights if out is None else out.addcmul_(sampled, weights)
        del sampled
    assert out is not None  # a kernel has at least one tap
    out = out.reshape(batch, group, channels, out_h, out_w).permute(0, 3, 4, 1, 2)
    return out.reshape(batch, out_h, out_w, group * channels).to(dtype)


def _normalize(position: Tensor, size: int) -> Tensor:
    """Convert pixels to grid_sample's [-1, 1], from edge to edge; clamped just outside to avoid overflow."""
    return (position.clamp(-2.0, size + 1.0) * 2 + 1) / size - 1


def same_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert the tensors to the widest of their dtypes, as autocast does for operators with several inputs."""
    widest = tensors[0].dtype
    for tensor in tensors[1:]:
        widest = torch.promote_types(widest, tensor.dtype)
    return tuple(tensor.to(widest) for tensor in tensors)


BACKEND = Backend('pytorch', dcnv3_pytorch, lambda case: None)
