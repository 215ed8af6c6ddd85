"""Attention with relative position bias, reference implementation."""

from __future__ import annotations

from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend


def dense(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Reference implementation (materializes the scores, (G, N, Q, K)).

    Arguments as :func:`vitdet_plugin.ops.rel_pos_attention.rel_pos_attention`.
    """
    scores = (q * scale) @ k.transpose(-2, -1)
    scores = scores + (rel_h[..., :, None] + rel_w[..., None, :]).flatten(-2)
    return scores.softmax(-1).to(v.dtype) @ v


BACKEND = Backend('dense', dense, lambda case: None)
