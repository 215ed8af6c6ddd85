"""Partition of a map of tokens into square windows, and its inverse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def padded_size(size: int, window: int, offset: int = 0) -> int:
    """Return the smallest multiple of ``window`` that is at least ``offset + size``."""
    return -(-(size + offset) // window) * window


def pad_with(x_bhwc: Tensor, height: int, width: int, value_c: Tensor | None = None, offset: int = 0) -> Tensor:
    """Pad a map to (height, width) with zeros or the vector ``value_c``.

    Args:
        x_bhwc: (B, H, W, C).
        height, width: size of the result.
        value_c: (C,); None for zeros.
        offset: rows above and columns left of the map; the other padding is below and to the right.

    Returns:
        (B, height, width, C); ``x_bhwc`` itself if it has that size.
    """
    batch, h, w, channels = x_bhwc.shape
    if (h, w) == (height, width):
        return x_bhwc
    if value_c is None:
        return F.pad(x_bhwc, (0, 0, offset, width - w - offset, offset, height - h - offset))
    # Concatenation (not assignment into an expanded copy) keeps the gradient of the value a plain sum.
    side = value_c.to(x_bhwc.dtype)
    left, right = (side.expand(batch, h, n, channels) for n in (offset, width - w - offset))
    rows = torch.cat([left, x_bhwc, right], 2)
    above, below = (side.expand(batch, n, width, channels) for n in (offset, height - h - offset))
    return torch.cat([above, rows, below], 1)


def window_partition(x_bhwc: Tensor, window: int) -> Tensor:
    """Partition a map into windows.

    Args:
        x_bhwc: (B, H, W, C), H and W multiples of ``window``.
        window: side of a window.

    Returns:
        (B * windows, window, window, C), windows row by row.
    """
    batch, h, w, channels = x_bhwc.shape
    x = x_bhwc.reshape(batch, h // window, window, w // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window, window, channels)


def window_unpartition(windows: Tensor, hw: tuple[int, int]) -> Tensor:
    """Invert :func:`window_partition`: (B * windows, window, window, C) -> (B, *hw, C)."""
    (h, w), window, channels = hw, windows.shape[1], windows.shape[-1]
    x = windows.reshape(-1, h // window, w // window, window, window, channels)
    return x.transpose(2, 3).reshape(-1, h, w, channels)
