"""Windows: cutting a map of tokens into square windows and putting it together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def padded_size(size: int, window: int, offset: int = 0) -> int:
    """The smallest multiple of ``window`` that holds ``offset`` leading cells and ``size`` cells."""
    return -(-(size + offset) // window) * window


def pad_with(x_bhwc: Tensor, height: int, width: int, value_c: Tensor | None = None, offset: int = 0) -> Tensor:
    """Grow a map to (height, width), the added cells holding zeros or the vector ``value_c``.

    Args:
        x_bhwc: (B, H, W, C).
        value_c: (C,) or None.
        offset: rows above and columns left of the map; what is missing after it goes below and to the right.

    Returns:
        (B, height, width, C); ``x_bhwc`` itself where nothing is missing.
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
    """(B, H, W, C), H and W multiples of ``window`` -> (B * windows, window, window, C), windows row by row."""
    batch, h, w, channels = x_bhwc.shape
    x = x_bhwc.reshape(batch, h // window, window, w // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window, window, channels)


def window_unpartition(windows: Tensor, hw: tuple[int, int]) -> Tensor:
    """The inverse of :func:`window_partition`: (B * windows, window, window, C) -> (B, *hw, C)."""
    (h, w), window, channels = hw, windows.shape[1], windows.shape[-1]
    x = windows.reshape(-1, h // window, w // window, window, window, channels)
    return x.transpose(2, 3).reshape(-1, h, w, channels)
