"""Absolute positions and rotary embeddings of timm's plain ViTs, for any grid and in windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.layers.antialias import resize_antialiased
from vitdet_plugin.layers.window import pad_with, padded_size, window_partition
from vitdet_plugin.utils.exporting import may_vary


def resize_positions(grid: Tensor, old_hw: tuple[int, int], hw: tuple[int, int], how: str) -> Tensor:
    """Resize a grid of absolute positions.

    Args:
        grid: (1, old H * old W, C).
        old_hw: old H and W.
        hw: H and W of the result.
        how: 'antialias' (bicubic, as timm), 'bicubic' (without antialiasing, as detectron2) or 'offset': the code of
            DINOv2 without registers passes ``(H + 0.1) / old H`` to the interpolation as scale factor, which then
            enters the sampling positions.

    Returns:
        (1, H * W, C).
    """
    if not may_vary(*hw) and tuple(old_hw) == tuple(hw):
        return grid
    maps = grid.unflatten(1, old_hw).permute(0, 3, 1, 2).to(torch.promote_types(grid.dtype, torch.float32))
    if how == 'offset':
        factors = tuple((new + 0.1) / old for new, old in zip(hw, old_hw))
        maps = F.interpolate(maps, scale_factor=factors, mode='bicubic', recompute_scale_factor=False)
    elif how == 'antialias' and may_vary(*hw) and torch.is_grad_enabled():
        maps = resize_antialiased(maps, hw)
    else:
        maps = F.interpolate(maps, size=hw, mode='bicubic', antialias=how == 'antialias')
    return maps.flatten(2).transpose(1, 2).to(grid.dtype)


def default_positions(model: str | dict, net: Any) -> str:
    """Return how the absolute positions of a model are resized by its official code, see :func:`resize_positions`."""
    is_dinov2 = isinstance(model, str) and 'dinov2' in model
    return 'offset' if is_dinov2 and getattr(net, 'reg_token', None) is None and 'reg' not in model else 'antialias'


def block_ropes(net: Any, hw: tuple[int, int], batch: int, is_global: Sequence[bool], window: int, *,
                restart: bool) -> list[Tensor | None]:
    """Return the rotary embeddings of each block.

    Args:
        net: Model of timm.
        hw: H and W of the grid.
        batch: Number of images.
        is_global: Whether each block attends globally, not in windows.
        window: Side of a window in tokens.
        restart: Whether a window has the embeddings of a grid of its own size; otherwise those of its position in the
            image.

    Returns:
        A table per block, see :func:`rope_table` and :func:`partition_rope`; None if there are no rotary embeddings.
    """
    if getattr(net, 'rope', None) is None:
        return [None] * len(is_global)
    whole = rope_table(net.rope, hw)
    in_windows = None if all(is_global) or not restart else rope_table(net.rope, (window, window))
    per_block = bool(getattr(net, 'rope_mixed', False))
    shared: dict[bool, Tensor] = {}  # tables that do not depend on the block
    ropes: list[Tensor | None] = []
    for i, globally in enumerate(is_global):
        table = shared.get(globally)
        if table is None:
            source = whole if globally or in_windows is None else in_windows
            table = source[i] if per_block else source
            if not globally and not restart:
                table = partition_rope(table, hw, window, batch)
            if not per_block:
                shared[globally] = table
        ropes.append(table)
    return ropes


def is_dinov3_rope(rope: Any) -> bool:
    """Whether a module is timm's rotary embedding of DINOv3, which older versions of timm lack."""
    return type(rope).__name__ == 'RotaryEmbeddingDinoV3'


def rope_table(rope: Any, hw: tuple[int, int]) -> Tensor:
    """Return the rotary embeddings of a grid.

    DINOv3's (arXiv 2508.10104, section 3.2) are computed here: timm's code converts the sizes to numbers, which a
    captured graph would keep. Augmentations in training are timm's.

    Args:
        rope: Module of timm.
        hw: H and W of the grid.

    Returns:
        (..., H * W, D), sines, then cosines; for embeddings of each block and head (blocks, heads, H * W, D).
    """
    own = is_dinov3_rope(rope) and rope.normalize_coords == 'separate' and rope.grid_offset == 0 and \
        rope.grid_indexing == 'ij' and not (rope.training and rope.aug_active)
    if not own:
        return rope.get_embed(shape=list(hw))
    periods = rope.periods
    y, x = ((torch.arange(size, device=periods.device, dtype=periods.dtype) + 0.5) / size * 2 - 1 for size in hw)
    y, x = (2 * math.pi * each[:, None] / periods for each in (y, x))
    angles = torch.cat([y[:, None].expand(-1, hw[1], -1), x[None].expand(hw[0], -1, -1)], 2).flatten(0, 1)
    angles = angles.repeat(1, 2) if rope.rotate_half else angles[..., None].expand(-1, -1, 2).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], 1)


def partition_rope(table: Tensor, hw: tuple[int, int], window: int, batch: int) -> Tensor:
    """Partition a table of rotary embeddings as :func:`~.timm_blocks.attend_in_windows` partitions the tokens.

    Args:
        table: (H * W, D), or (heads, H * W, D) for embeddings of each head; D holds sines, then cosines.
        hw: H and W.
        window: Side of a window in tokens.
        batch: Number of images.

    Returns:
        (batch * windows, 1 or heads, window * window, D). Padded positions are not rotated (sine 0, cosine 1).
    """
    per_head = table if table.ndim == 3 else table[None]
    half = table.shape[-1] // 2
    identity = torch.cat([table.new_zeros(half), table.new_ones(half)])
    padded_hw = padded_size(hw[0], window), padded_size(hw[1], window)
    padded = pad_with(per_head.unflatten(1, hw), *padded_hw, identity)
    windows = window_partition(padded, window).flatten(1, 2).unflatten(0, (len(per_head), -1))
    return windows.transpose(0, 1).repeat(batch, 1, 1, 1)
