"""Attention with relative position bias as one call of PyTorch's fused attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Backend, Case


def folded(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Fold the bias into longer queries and keys, so that fused attention needs no mask.

    The biased score is ``[q * scale, rel_h, rel_w] . [k, onehot_y, onehot_x]``. Values are padded with zeros to the
    longer head size, which the fused kernels require to be the same for all three. Arguments as
    :func:`vitdet_plugin.ops.rel_pos_attention.rel_pos_attention`.
    """
    height, width, dim = rel_h.shape[-1], rel_w.shape[-1], q.shape[-1]
    positions = torch.cat([
        torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0),
        torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1),
    ], 1)
    long_q = torch.cat([q * scale, rel_h.to(q.dtype), rel_w.to(q.dtype)], -1)
    long_k = torch.cat([k, positions.expand(*k.shape[:2], -1, -1)], -1)
    out = F.scaled_dot_product_attention(long_q, long_k, F.pad(v, (0, height + width)), scale=1.0)
    return out[..., :dim]


def _why_not(case: Case) -> str | None:
    if case.transformed:
        return NOT_TRANSFORMED
    return 'not used for exports' if case.exporting and not case.named else None


BACKEND = Backend('folded', folded, _why_not)
