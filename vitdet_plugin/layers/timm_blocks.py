"""Transformer blocks of timm with their attention restricted to windows.

Everything in a block except the attention acts on single tokens, so a block is windowed by partitioning the tokens
between ``norm1`` and ``attn``. The residual branches are written out here; the modules and weights are timm's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import beit, eva, vision_transformer
from torch import Tensor

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.window import crop, pad_with, padded_size, window_partition, window_unpartition
from vitdet_plugin.ops.linear import is_plain
from vitdet_plugin.ops.rel_pos_attention.cpu import compiled_attention
from vitdet_plugin.utils.exporting import is_exporting, may_vary

_PRE_NORM = (vision_transformer.Block, eva.EvaBlock, beit.Block)
_POST_NORM = (vision_transformer.ResPostBlock, eva.EvaBlockPostNorm)


def set_windowed_forward(block: Any) -> None:
    """Replace ``forward`` of a block of timm by :func:`run_block`; hooks, FSDP and ``torch.compile`` apply to it.

    Raises:
        UserError: The class of the block is not supported.
    """
    if not isinstance(block, _PRE_NORM + _POST_NORM):
        known = ', '.join(sorted(cls.__name__ for cls in {*_PRE_NORM, *_POST_NORM}))
        raise UserError(f'blocks of type {type(block).__name__} cannot be run in windows; supported are {known}')
    block.forward = functools.partial(run_block, block)


def run_block(block: Any, x: Tensor, hw: tuple[int, int], rope: Tensor | None, window: int, num_prefix: int) -> Tensor:
    """Run a block of timm whose attention may be restricted to windows.

    Args:
        block: Module of a class that :func:`set_windowed_forward` accepts.
        x: (B, num_prefix + H * W, C).
        hw: H and W.
        rope: Rotary embeddings of the tokens of the attention, or None.
        window: Side of a window in tokens; 0: global attention.
        num_prefix: Number of prefix tokens.

    Returns:
        (B, num_prefix + H * W, C).
    """
    attend = _attention(block, (window, window) if window else hw, rope, num_prefix)
    if window:
        attend = functools.partial(attend_in_windows, attend, hw=hw, window=window, num_prefix=num_prefix)
    with compiled_attention(x):
        if isinstance(block, _POST_NORM):
            x = x + block.drop_path1(block.norm1(attend(x)))
            return x + block.drop_path2(block.norm2(block.mlp(x)))
        x = x + block.drop_path1(_layer_scale(block, 1, attend(block.norm1(x))))
        return x + block.drop_path2(_layer_scale(block, 2, block.mlp(block.norm2(x))))


def _attention(block: Any, hw: tuple[int, int], rope: Tensor | None, num_prefix: int) -> Callable[[Tensor], Tensor]:
    if isinstance(block, beit.Block):
        return functools.partial(beit_attention, block.attn, hw=hw, num_prefix=num_prefix)
    return block.attn if rope is None else functools.partial(block.attn, rope=rope)


def _layer_scale(block: Any, branch: int, x: Tensor) -> Tensor:
    scale = getattr(block, f'ls{branch}', None)
    if scale is not None:
        return scale(x)
    gamma = getattr(block, f'gamma_{branch}', None)
    return x if gamma is None else gamma * x


def attend_in_windows(attend: Callable[[Tensor], Tensor], x: Tensor, hw: tuple[int, int], window: int,
                      num_prefix: int) -> Tensor:
    """Apply an attention within each window of the patch tokens.

    A grid that the windows do not divide is padded on the right and at the bottom with zeros, which take part in the
    softmax, as in detectron2's ViTDet. Prefix tokens (class, registers) are copied to every window; their result is
    the mean over the windows.

    Args:
        attend: Maps (B * windows, num_prefix + window * window, C) to the same shape; windows row by row.
        x: (B, num_prefix + H * W, C).
        hw: H and W.
        window: Side of a window in tokens.
        num_prefix: Number of prefix tokens.

    Returns:
        (B, num_prefix + H * W, C).
    """
    prefix, patches = x[:, :num_prefix], x[:, num_prefix:].unflatten(1, hw)
    padded_hw = padded_size(hw[0], window), padded_size(hw[1], window)
    tokens = window_partition(pad_with(patches, *padded_hw), window).flatten(1, 2)
    windows = (padded_hw[0] // window) * (padded_hw[1] // window)
    if num_prefix:
        tokens = torch.cat([prefix[:, None].expand(-1, windows, -1, -1).flatten(0, 1), tokens], 1)
    out = attend(tokens)
    patches = window_unpartition(out[:, num_prefix:].unflatten(1, (window, window)), padded_hw)
    patches = crop(patches, 0, hw).flatten(1, 2)
    if not num_prefix:
        return patches
    prefix = out[:, :num_prefix].unflatten(0, (-1, windows))
    if may_vary(*hw):  # a captured graph may have windows without a token of the image
        rows, columns = (torch.arange(padded // window, device=x.device) * window < size
                         for padded, size in zip(padded_hw, hw, strict=True))
        used = (rows[:, None] & columns).flatten().to(x.dtype)
        mean = (prefix * used[:, None, None]).sum(1) / used.sum()
    else:
        mean = prefix.mean(1)
    return torch.cat([mean, patches], 1)


def beit_attention(attn: Any, x: Tensor, hw: tuple[int, int], num_prefix: int) -> Tensor:
    """Attention of BEiT (arXiv 2106.08254) with its relative position table fitted to a grid.

    timm's module keeps a table and an index for one grid; here the table is fitted to each grid, without changing the
    module.

    Args:
        attn: ``Attention`` of timm's ``beit`` module.
        x: (B, num_prefix + H * W, C).
        hw: H and W.
        num_prefix: 1 with the class token, otherwise 0.
    """
    bias = None if attn.q_bias is None else torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    if is_plain(attn.qkv):
        qkv = F.linear(x, attn.qkv.weight, bias)
    else:
        qkv = attn.qkv(x)
        qkv = qkv if bias is None else qkv + bias
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mask = None
    if attn.relative_position_bias_table is not None:
        mask = _beit_bias(attn, hw)[:, 1 - num_prefix:, 1 - num_prefix:].to(q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=attn.scale,
                                         dropout_p=attn.attn_drop.p if attn.training else 0.0)
    return attn.proj_drop(attn.proj(out.transpose(1, 2).flatten(2)))


def _beit_bias(attn: Any, hw: tuple[int, int]) -> Tensor:
    """Return (heads, 1 + H * W, 1 + H * W) for the class token and a grid."""
    if is_exporting() and may_vary(*hw):
        raise UserError("BEiT's relative positions are fitted to one grid of patches: export a fixed size (leave "
                        '"size" out of --dynamic)')
    table = attn.relative_position_bias_table
    (h, w), (own_h, own_w) = hw, attn.window_size
    grid, extra = table[:-3].T.unflatten(1, (2 * own_h - 1, 2 * own_w - 1)), table[-3:].T
    if (h, w) != (own_h, own_w):
        # a copy: one that was made in inference mode cannot take part in a training step
        rows, columns = (_resampling(own, new).to(grid, copy=True) for own, new in ((own_h, h), (own_w, w)))
        grid = rows @ grid @ columns.T
    distance_y, distance_x = (positions[:, None] - positions + len(positions) - 1
                              for positions in (torch.arange(n, device=table.device) for n in hw))
    bias = grid[:, distance_y[:, None, :, None], distance_x[None, :, None, :]].flatten(3).flatten(1, 2)
    from_class, to_class, between = extra.unbind(1)  # class to patches, patches to class, class to class
    above = torch.cat([between[:, None, None], from_class[:, None, None].expand(-1, 1, h * w)], 2)
    return torch.cat([above, torch.cat([to_class[:, None, None].expand(-1, h * w, 1), bias], 2)], 1)


@functools.lru_cache(maxsize=64)
def _resampling(size: int, new_size: int) -> Tensor:
    """Return the matrix (2 * new_size - 1, 2 * size - 1) that fits one axis of a relative position table to a grid.

    Larger grids: the known distances are spread in a geometric progression, so that small ones keep their meaning, and
    interpolated linearly (the rule of BEiT's fine-tuning code). Smaller grids: the central part of the table.
    """
    if new_size <= size:
        return torch.eye(2 * size - 1)[size - new_size:size + new_size - 1]
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (size - 1)) / (1 - ratio) > new_size - 1:
            high = ratio
        else:
            low = ratio
    steps = torch.cumsum(ratio ** torch.arange(size - 1, dtype=torch.float64), 0)
    known = torch.cat([-steps.flip(0), torch.zeros(1, dtype=torch.float64), steps])
    distances = torch.arange(1 - new_size, new_size, dtype=torch.float64)
    right = torch.searchsorted(known, distances).clamp(1, len(known) - 1)
    share = ((distances - known[right - 1]) / (known[right] - known[right - 1])).clamp(0, 1)
    matrix = torch.zeros(len(distances), len(known), dtype=torch.float64)
    matrix.scatter_(1, right[:, None] - 1, 1 - share[:, None]).scatter_(1, right[:, None], share[:, None])
    return matrix
