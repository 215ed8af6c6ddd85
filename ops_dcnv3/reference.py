"""DCNv3 in PyTorch: runs on any device, exports to ONNX, and is used where no kernel is compiled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ops_dcnv3.geometry import Geometry
from vitdet_plugin.ops.dispatch import Backend
from vitdet_plugin.utils.exporting import is_exporting

_SAMPLES = 2 ** 21  # elements that several taps together may sample; one tap alone may sample more


def dcnv3_pytorch(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """Compute a few taps at a time, so that no tensor of all samples of a large map exists.

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
    offset = offset.reshape(batch, out_h, out_w, group, taps, 2).permute(0, 3, 4, 1, 2, 5)  # (N, G, K, Ho, Wo, xy)
    mask = mask.reshape(batch, out_h, out_w, group, taps).permute(0, 3, 4, 1, 2)
    columns = torch.arange(out_w, dtype=offset.dtype, device=offset.device) * geometry.stride_w
    rows = torch.arange(out_h, dtype=offset.dtype, device=offset.device) * geometry.stride_h
    origins = torch.tensor([geometry.tap_origin(*cell) for cell in geometry.taps()], dtype=offset.dtype,
                           device=offset.device)[..., None, None]  # (K, xy, 1, 1)

    out: Tensor | None = None
    count = _taps_at_once(taps, batch * group * channels * out_h * out_w)
    for first in range(0, taps, count):
        part = slice(first, min(first + count, taps))
        shift = offset[:, :, part]
        x = (columns + origins[part, 0]) + shift[..., 0] * geometry.offset_scale
        y = (rows[:, None] + origins[part, 1]) + shift[..., 1] * geometry.offset_scale
        grid = torch.stack((_normalize(x, width), _normalize(y, height)), -1)
        weights = mask[:, :, part].flatten(0, 1)[:, None]  # (N * G, 1, taps, Ho, Wo)
        sampled = F.grid_sample(value, grid.flatten(0, 1).flatten(1, 2), mode='bilinear', padding_mode='zeros',
                                align_corners=False)
        sampled = sampled.reshape(batch * group, channels, part.stop - part.start, out_h, out_w)
        if count == 1:
            sampled, weights = sampled[:, :, 0], weights[:, :, 0]
            out = sampled * weights if out is None else out.addcmul_(sampled, weights)
        else:
            weighted = (sampled * weights).sum(2)
            out = weighted if out is None else out + weighted
        del sampled
    assert out is not None  # a kernel has at least one tap
    out = out.reshape(batch, group, channels, out_h, out_w).permute(0, 3, 4, 1, 2)
    return out.reshape(batch, out_h, out_w, group * channels).to(dtype)


def _taps_at_once(taps: int, elements: int) -> int:
    """Return how many taps are sampled together; few operators make small maps fast.

    Args:
        taps: All taps.
        elements: Elements of the output; one tap samples as many. A captured graph for any size has one tap at a time.
    """
    if is_exporting() or not isinstance(elements, int):
        return 1
    fitting = _SAMPLES // max(elements, 1)
    return min(taps, fitting) if fitting >= 3 else 1  # two at a time are not faster than one


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
