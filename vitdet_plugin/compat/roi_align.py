"""``roi_align_forward`` and ``roi_align_backward`` with the signatures of mmcv's extension.

Averages are computed by torchvision. The maximum, which torchvision lacks, is written in PyTorch and slower.
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
    cells of the input. ``argmax_y/x`` (like ``output``) receive the row and column of the greatest sample of each bin,
    where pool_mode is maximum. mmcv's kernels store coordinates there, which half precision would round.
    """
    wide_input, wide_rois = widen(input.detach(), rois.detach())
    if pool_mode != _MAX:
        output.copy_(torch.ops.torchvision.roi_align(wide_input, wide_rois, spatial_scale, aligned_height,
                                                     aligned_width, sampling_ratio, aligned))
        return
    for r, roi in enumerate(wide_rois):
        rows, columns = _sample_axes(roi, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
        value, where = _sample(wide_input[int(roi[0])], rows, columns).max(dim=-1)  # (C, ph, pw)
        output[r] = value
        argmax_y[r] = where // columns.shape[1]
        argmax_x[r] = where % columns.shape[1]


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Add to ``grad_input`` (N, C, H, W), zero on entry, the gradient of what `roi_align_forward` computed."""
    grad, wide_rois = widen(grad_output.detach(), rois.detach())
    if pool_mode != _MAX:
        grad_input.add_(torch.ops.torchvision._roi_align_backward(
            grad, wide_rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio,
            aligned).to(grad_input.dtype))
        return
    total = torch.zeros(grad_input.shape, dtype=grad.dtype, device=grad.device)
    bin_y = torch.arange(aligned_height, device=grad.device)[:, None]
    bin_x = torch.arange(aligned_width, device=grad.device)
    for r, roi in enumerate(wide_rois):
        rows, columns = _sample_axes(roi, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
        y, x = rows[bin_y, argmax_y[r].long()], columns[bin_x, argmax_x[r].long()]  # (C, ph, pw)
        _scatter(grad[r], y, x, total[int(roi[0])])
    grad_input.add_(total.to(grad_input.dtype))


def _sample_axes(roi: Tensor, height: int, width: int, spatial_scale: float, sampling_ratio: int,
                 aligned: bool) -> tuple[Tensor, Tensor]:
    """Return rows (height, S) and columns (width, T), in cells, at which the bins of one RoI (5,) are sampled."""
    x1, y1, x2, y2 = (roi[1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind()
    roi_h, roi_w = y2 - y1, x2 - x1
    if not aligned:
        roi_h, roi_w = roi_h.clamp(min=1), roi_w.clamp(min=1)

    def axis(start: Tensor, length: Tensor, bins: int) -> Tensor:
        per_bin = sampling_ratio if sampling_ratio > 0 else max(int(torch.ceil(length / bins)), 1)
        step = torch.arange(bins * per_bin, dtype=roi.dtype, device=roi.device) + 0.5
        return (start + step * (length / (bins * per_bin))).view(bins, per_bin)

    return axis(y1, roi_h, height), axis(x1, roi_w, width)


def _inside(y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Whether samples count: up to one cell outside they have the value of the border, farther away zero."""
    return (y >= -1) & (y <= height) & (x >= -1) & (x <= width)


def _sample(feature: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of ``feature`` (C, H, W) at rows (ph, S) by columns (pw, T), giving (C, ph, pw, S * T)."""
    _, height, width = feature.shape
    y, x = (t.flatten(2) for t in torch.broadcast_tensors(rows[:, None, :, None], columns[None, :, None, :]))
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    value = F.grid_sample(feature[None], grid.flatten(1, 2)[None], padding_mode='border', align_corners=True)[0]
    return value.view(-1, *y.shape) * _inside(y, x, height, width)


def _scatter(grad: Tensor, y: Tensor, x: Tensor, total: Tensor) -> None:
    """Add each gradient (C, ph, pw) to the four cells of ``total`` (C, H, W) around its point, by bilinear weights."""
    channels, height, width = total.shape
    grad = grad * _inside(y, x, height, width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor(), x.floor()
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            cell = row.clamp(max=height - 1).long() * width + column.clamp(max=width - 1).long()
            total.view(channels, -1).scatter_add_(1, cell.flatten(1), (grad * row_weight * column_weight).flatten(1))
