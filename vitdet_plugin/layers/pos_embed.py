"""Absolute position embeddings and relative position tables, resized to the grid of the input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.exporting import is_exporting, may_vary


def resize_abs_pos(pos_embed: Tensor, hw: tuple[int, ...], *, has_cls_slot: bool) -> Tensor:
    """Resize a square grid of absolute position embeddings (bicubic, ``align_corners=False``).

    Args:
        pos_embed: (1, [1 +] S * S, C); a leading class slot is dropped.
        hw: rows and columns of the result.
        has_cls_slot: whether ``pos_embed`` has a class slot.

    Returns:
        (1, H, W, C).

    Raises:
        UserError: the number of patch positions is not a square.
    """
    grid = pos_embed[:, 1:] if has_cls_slot else pos_embed
    side = round(int(grid.shape[1]) ** 0.5)  # a tensor while tracing
    if side * side != grid.shape[1]:
        raise UserError(f'pos_embed holds {grid.shape[1]} patch positions, which is not a square grid. Check '
                         f'has_cls_slot={has_cls_slot}: it must be True if, and only if, there is a class slot.')
    grid = grid.reshape(1, side, side, -1)
    return resize_grid(grid, hw)


class ResizedPosEmbed:
    """:func:`resize_abs_pos` that keeps the last result in eval mode without gradients.

    Threads may share it: what is kept is one tuple, read and replaced as a whole. Copies and pickles start empty.

    Args:
        has_cls_slot: whether the position embeddings have a class slot.
    """

    def __init__(self, *, has_cls_slot: bool) -> None:
        self.has_cls_slot = has_cls_slot
        self._last: tuple[Tensor, Tensor] | None = None  # pos_embed at that time, and resized

    def __call__(self, pos_embed: Tensor, hw: tuple[int, ...], *, training: bool) -> Tensor:
        """(1, [1 +] S * S, C) -> (1, H, W, C)."""
        if training or torch.is_grad_enabled() or may_vary(*hw) or is_exporting() or pos_embed.is_meta:
            return resize_abs_pos(pos_embed, hw, has_cls_slot=self.has_cls_slot)
        # Comparing values is cheap; version counters and addresses miss writes of averaging hooks through ``.data``.
        last = self._last
        if last is None or last[1].shape[1:3] != hw or not _equal(last[0], pos_embed):
            last = (pos_embed.detach().clone(),
                    resize_abs_pos(pos_embed, hw, has_cls_slot=self.has_cls_slot).clone())
            self._last = last
        return last[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty_cache, (self.has_cls_slot,)


def _empty_cache(has_cls_slot: bool) -> ResizedPosEmbed:
    return ResizedPosEmbed(has_cls_slot=has_cls_slot)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def resize_grid(grid: Tensor, hw: tuple[int, ...]) -> Tensor:
    """Resize a map of vectors (bicubic, ``align_corners=False``).

    Args:
        grid: (1, H', W', C).
        hw: rows and columns of the result.

    Returns:
        (1, H, W, C); ``grid`` itself if it has that size.
    """
    if not may_vary(*hw) and tuple(grid.shape[1:3]) == tuple(hw):
        return grid
    resized = F.interpolate(grid.permute(0, 3, 1, 2), size=tuple(hw), mode='bicubic', align_corners=False)
    return resized.permute(0, 2, 3, 1)


def resize_kernel(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize the kernel of a patch embedding: (out, in, h', w') -> (out, in, *size) in float32, bicubic."""
    return F.interpolate(kernel.float(), size=tuple(size), mode='bicubic', align_corners=False)


def fit_stored_pos_embed(value: Tensor, own: Tensor) -> Tensor | None:
    """Resize a checkpoint's position embedding to the size of the model's.

    Args:
        value: (1, [1 +] S * S, C), or (1, S, S, C) as SAM stores it.
        own: (1, [1 +] S' * S', C), of the model; a class slot is added (zero) or dropped.

    Returns:
        (1, [1 +] S' * S', C) in float32, bicubic; None if ``value`` is not a square grid or has another number of
        channels.
    """
    if value.ndim == 4:
        value = value.flatten(1, 2)
    if value.shape[-1] != own.shape[-1]:
        return None
    (side, slot), (own_side, own_slot) = (_square_and_slot(x.shape[1]) for x in (value, own))
    if slot > 2:  # there is at most a class and a distillation token, so this is not a square grid
        return None
    grid = value[:, slot:].unflatten(1, (side, side)).permute(0, 3, 1, 2).float()
    if side != own_side:
        grid = F.interpolate(grid, size=(own_side, own_side), mode='bicubic', align_corners=False)
    cls = value[:, :1].float() if slot else torch.zeros_like(value[:, :1], dtype=torch.float32)
    return torch.cat([cls[:, :own_slot], grid.flatten(2).transpose(1, 2)], 1)


def _square_and_slot(positions: int) -> tuple[int, int]:
    """Return the side of the grid and the number of class slots of ``positions`` entries."""
    side = int(positions ** 0.5)
    return side, positions - side * side


def fit_rel_pos(table: Tensor, length: int) -> Tensor:
    """Interpolate a table of relative positions linearly if it has another length: (L, d) -> (length, d)."""
    if may_vary(length) or table.shape[0] != length:
        wide = torch.promote_types(table.dtype, torch.float32)
        return F.interpolate(table.T[None].to(wide), size=length, mode='linear')[0].T.to(table.dtype)
    return table


def rel_pos_rows(table: Tensor, size: int) -> Tensor:
    """Look up a learned table of relative positions along one axis.

    Args:
        table: (L, d); row r is the distance r - (L - 1) / 2. Interpolated linearly if L is not ``2 * size - 1``.
        size: size of the grid along the axis.

    Returns:
        (size, size, d): the row of the distance i - j of query i and key j.
    """
    table = fit_rel_pos(table, 2 * size - 1)
    if not may_vary(size) and not is_exporting():  # a view and a copy, each with a simple gradient
        return table.unfold(0, size, 1).flip(-1).transpose(1, 2)
    index = torch.arange(size, device=table.device)
    return table[index[:, None] - index + (size - 1)]


def decomposed_rel_pos(q: Tensor, table_h: Tensor, table_w: Tensor, hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the decomposed relative position bias from the *unscaled* queries (MViTv2, equation 4).

    Args:
        q: (B, heads, H * W, d).
        table_h, table_w: (L_h, d), (L_w, d), shared by the heads.
        hw: rows and columns of the grid.

    Returns:
        rel_h (B, heads, H * W, H) and rel_w (B, heads, H * W, W): the bias of query i and key (y, x) is
        ``rel_h[i, y] + rel_w[i, x]``.
    """
    h, w = hw
    q_map = q.unflatten(2, hw)
    rel_h = torch.einsum('bnhwd,hkd->bnhwk', q_map, rel_pos_rows(table_h, h))
    rel_w = torch.einsum('bnhwd,wkd->bnhwk', q_map, rel_pos_rows(table_w, w))
    return rel_h.flatten(2, 3), rel_w.flatten(2, 3)
