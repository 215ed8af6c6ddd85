"""Bicubic interpolation with antialiasing as two matrix products.

Inductor and aot_autograd cannot capture the gradient of PyTorch's operator at symbolic sizes (torch 2.14: `Expected
IntList but got GenericList`); products of matrices they can.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.utils.precision import no_autocast

_CUBIC = -0.5  # coefficient of PyTorch's bicubic interpolation with antialiasing
_SUPPORT = 2  # the kernel is zero beyond


def resize_antialiased(maps: Tensor, hw: tuple[int, int]) -> Tensor:
    """``F.interpolate(maps, hw, mode='bicubic', antialias=True)`` up to rounding.

    Args:
        maps: (B, C, H', W'), a floating-point type of at least 32 bits.
        hw: H and W of the result; symbols are allowed.

    Returns:
        (B, C, H, W).
    """
    with no_autocast(maps.device.type):
        rows, columns = (_weights(source, target, maps) for source, target in zip(maps.shape[2:], hw, strict=True))
        return rows @ maps @ columns.T


def _weights(source: int, target: int, like: Tensor) -> Tensor:
    """Return the matrix (target, source) that resizes ``source`` values, in the type of ``like``."""
    wide = torch.arange(source, device=like.device, dtype=torch.float64) + 0.5
    scale = source / torch.full((), target, device=like.device, dtype=torch.float64)
    centers = (torch.arange(target, device=like.device, dtype=torch.float64) + 0.5) * scale
    x = ((wide - centers[:, None]) / scale.clamp(min=1)).abs()
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    far = ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC
    weights = torch.where(x < 1, near, torch.where(x < _SUPPORT, far, 0.0))
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)
