"""Partition of a map of tokens into square windows, and its inverse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.utils.exporting import may_vary


def padded_size(size: int, window: int, offset: int = 0) -> int:
    """Return the smallest multiple of ``window`` that is at least ``offset + size``.

    For a symbol of ``torch.export`` at least two windows, so that the graph is valid for any number of them.
    """
    count = (size + offset + window - 1) // window
    if isinstance(size, torch.SymInt):
        count = torch.sym_max(count, 2)
    return count * window


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
    margins = (0, 0, offset, width - w - offset, offset, height - h - offset)
    symbolic = may_vary(h, w, height, width)
    if not symbolic and (h, w) == (height, width):
        return x_bhwc
    if value_c is None:
        return F.pad(x_bhwc, margins)
    if symbolic:  # concatenation would assume that there is padding on every side
        inside = F.pad(torch.ones(1, h, w, 1, dtype=torch.bool, device=x_bhwc.device), margins)
        return torch.where(inside, F.pad(x_bhwc, margins), value_c.to(x_bhwc.dtype))
    # Concatenation (not assignment into an expanded copy) keeps the gradient of the value a plain sum.
    side = value_c.to(x_bhwc.dtype)
    left, right = (side.expand(batch, h, n, channels) for n in (offset, width - w - offset))
    rows = torch.cat([left, x_bhwc, right], 2)
    above, below = (side.expand(batch, n, width, channels) for n in (offset, height - h - offset))
    return torch.cat([above, rows, below], 1)


def crop(x_bhwc: Tensor, offset: int, hw: tuple[int, int]) -> Tensor:
    """Invert :func:`pad_with`: (B, height, width, C) -> (B, *hw, C)."""
    h, w = hw
    if may_vary(h, w):  # a copy: whether a slice is contiguous would depend on the size
        rows, columns = (offset + torch.arange(size, device=x_bhwc.device) for size in hw)
        return x_bhwc.index_select(1, rows).index_select(2, columns)
    return x_bhwc[:, offset:offset + h, offset:offset + w]


def window_partition(x_bhwc: Tensor, window: int) -> Tensor:
    """Partition a map into windows.

    Args:
        x_bhwc: (B, H, W, C), H and W multiples of ``window``.
        window: side of a window.

    Returns:
        (B * windows, window, window, C), windows row by row.
    """
    rows, columns = x_bhwc.shape[1] // window, x_bhwc.shape[2] // window
    x = x_bhwc.unflatten(2, (columns, window)).unflatten(1, (rows, window))
    return x.transpose(2, 3).contiguous().flatten(0, 2)


def window_unpartition(windows: Tensor, hw: tuple[int, int]) -> Tensor:
    """Invert :func:`window_partition`: (B * windows, window, window, C) -> (B, *hw, C)."""
    window = windows.shape[1]
    rows, columns = hw[0] // window, hw[1] // window
    x = windows.unflatten(0, (-1, rows, columns))
    return x.transpose(2, 3).contiguous().flatten(3, 4).flatten(1, 2)
