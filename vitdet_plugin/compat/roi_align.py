"""``roi_align_forward`` and ``roi_align_backward`` with the signatures of mmcv's extension.

Averages come from torchvision. The maximum, which torchvision lacks, is a plain PyTorch form: slower, but right.
"""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 (loads torch.ops.torchvision)
from torch import Tensor

from vitdet_plugin.compat.precision import widen

_MAX = 0  # mmcv's pool_mode: 0 maximum, 1 average


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Fill ``output`` (R, C, aligned_height, aligned_width) from ``input`` (N, C, H, W).

    ``rois`` (R, 5) holds the image index and x1 y1 x2 y2 in pixels of the image; times ``spatial_scale`` they are
    cells of the input. ``argmax_y/x`` (like ``output``) receive the places of the maxima, where pool_mode is maximum.
    """
    wide_input, wide_rois = widen(input.detach(), rois.detach())
    if pool_mode == _MAX:
        for r, roi in enumerate(wide_rois):
            y, x = _sample_points(roi, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
            value, where = _sample(wide_input[int(roi[0])], y, x).max(dim=-1)  # (C, ph, pw)
            output[r] = value
            argmax_y[r] = y.expand(value.shape + y.shape[-1:]).gather(-1, where[..., None])[..., 0]
            argmax_x[r] = x.expand(value.shape + x.shape[-1:]).gather(-1, where[..., None])[..., 0]
        return
    output.copy_(torch.ops.torchvision.roi_align(wide_input, wide_rois, spatial_scale, aligned_height, aligned_width,
                                                 sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Add to ``grad_input`` (N, C, H, W), zero on entry, the gradient of what `roi_align_forward` computed."""
    grad, wide_rois = widen(grad_output.detach(), rois.detach())
    if pool_mode == _MAX:
        _scatter_max(grad, wide_rois[:, 0].long(), *widen(argmax_y, argmax_x), grad_input)
        return
    grad_input.add_(torch.ops.torchvision._roi_align_backward(
        grad, wide_rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio,
        aligned).to(grad_input.dtype))


def _sample_points(roi: Tensor, height: int, width: int, spatial_scale: float, sampling_ratio: int,
                   aligned: bool) -> tuple[Tensor, Tensor]:
    """Rows and columns, in cells, at which each bin of one RoI (5,) is sampled: twice (height, width, S)."""
    x1, y1, x2, y2 = (roi[1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind()
    roi_h, roi_w = y2 - y1, x2 - x1
    if not aligned:
        roi_h, roi_w = roi_h.clamp(min=1), roi_w.clamp(min=1)

    def axis(start: Tensor, length: Tensor, bins: int) -> Tensor:
        per_bin = sampling_ratio if sampling_ratio > 0 else max(int(torch.ceil(length / bins)), 1)
        step = torch.arange(bins * per_bin, dtype=roi.dtype, device=roi.device) + 0.5
        return (start + step * (length / (bins * per_bin))).view(bins, per_bin)

    rows, columns = axis(y1, roi_h, height), axis(x1, roi_w, width)
    y, x = torch.broadcast_tensors(rows[:, None, :, None], columns[None, :, None, :])
    return y.flatten(2), x.flatten(2)


def _inside(y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Samples up to one cell outside count as on the border, those farther away as zero."""
    return (y >= -1) & (y <= height) & (x >= -1) & (x <= width)


def _sample(feature: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear values of ``feature`` (C, H, W) at points of shape (ph, pw, S), giving (C, ph, pw, S)."""
    _, height, width = feature.shape
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    value = F.grid_sample(feature[None], grid.flatten(1, 2)[None], padding_mode='border', align_corners=True)[0]
    return value.view(-1, *y.shape) * _inside(y, x, height, width)


def _scatter_max(grad: Tensor, image: Tensor, y: Tensor, x: Tensor, grad_input: Tensor) -> None:
    """Give each gradient (R, C, ph, pw) to the four cells around its maximum, by their bilinear weights."""
    _, channels, height, width = grad_input.shape
    grad = grad * _inside(y, x, height, width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor(), x.floor()
    plane = (image[:, None] * channels + torch.arange(channels, device=grad.device)).view(*grad.shape[:2], 1, 1)
    total = torch.zeros(grad_input.numel(), dtype=grad.dtype, device=grad.device)
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            cell = row.clamp(max=height - 1).long() * width + column.clamp(max=width - 1).long()
            index = plane * (height * width) + cell
            total.index_add_(0, index.flatten(), (grad * row_weight * column_weight).flatten())
    grad_input.add_(total.view_as(grad_input).to(grad_input.dtype))
