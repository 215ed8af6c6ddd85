"""Padding on the right and at the bottom of images, found and masked without branching on the values.

All sizes are tensors, so a captured graph is right for any images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.utils.precision import no_autocast

_CUBIC = -0.75  # coefficient of PyTorch's bicubic interpolation


def filled_sizes(x: Tensor) -> Tensor:
    """Return the size of each image without the zeros on its right and at its bottom.

    A row of a normalized image that is zero in every channel is padding: pixel values are integers, and the means
    in use are not.

    Args:
        x: (B, C, H, W).

    Returns:
        Heights and widths (B, 2), int64.
    """
    filled = (x != 0).any(1)
    sizes = []
    for axis, length in ((2, x.shape[2]), (1, x.shape[3])):
        sizes.append((filled.any(axis) * torch.arange(1, length + 1, device=x.device)).amax(1))
    return torch.stack(sizes, 1)


def inside(sizes: Tensor, hw: tuple[int, int]) -> Tensor:
    """Return which positions of a grid are inside of each image.

    Args:
        sizes: Heights and widths (B, 2) in positions.
        hw: Rows and columns of the grid.

    Returns:
        (B, H, W), bool.
    """
    rows, columns = (torch.arange(size, device=sizes.device) for size in hw)
    return (rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None, :]


def resize_to_each(grid: Tensor, sizes: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize a map of vectors to the size of each image (bicubic, ``align_corners=False``).

    Args:
        grid: (1, H', W', C).
        sizes: Heights and widths (B, 2) in positions.
        hw: Rows and columns of the result.

    Returns:
        (B, H, W, C); beyond the size of an image, any finite values.
    """
    wide = torch.promote_types(grid.dtype, torch.float32)
    with no_autocast(grid.device.type):
        rows, columns = (_bicubic(sizes[:, axis], grid.shape[axis + 1], hw[axis], wide) for axis in (0, 1))
        resized = torch.einsum('bhi,ijc->bhjc', rows, grid[0].to(wide))
        return torch.einsum('bwj,bhjc->bhwc', columns, resized).to(grid.dtype)


def _bicubic(sizes: Tensor, source: int, target: int, dtype: torch.dtype) -> Tensor:
    """Return the weights (B, target, source) that resize ``source`` values to the sizes (B,)."""
    scale = source / sizes.to(dtype)
    position = (torch.arange(target, device=sizes.device).to(dtype) + 0.5) * scale[:, None] - 0.5
    taps = position.floor()[..., None] + torch.arange(-1, 3, device=sizes.device).to(dtype)  # (B, target, 4)
    d = (position[..., None] - taps).abs()
    close = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
    weights = torch.where(d <= 1, close, far)
    matrix = torch.zeros(source, device=sizes.device, dtype=dtype).expand(*taps.shape[:2], source)
    return matrix.scatter_add(2, taps.clamp(0, source - 1).long(), weights)
