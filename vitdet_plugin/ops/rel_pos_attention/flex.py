"""Attention with relative position bias by PyTorch's ``flex_attention``."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Backend, Case


@cache
def _flex_attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention  # imports the compiler, so not at module level
    attention: Any = torch.compile(flex_attention) if compiled else flex_attention
    return attention


def flex(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """``flex_attention`` with the bias as score modifier: compiled on a GPU, its eager and dense form elsewhere.

    Arguments as :func:`vitdet_plugin.ops.rel_pos_attention.rel_pos_attention`.
    """
    width = rel_w.shape[-1]

    def add_bias(score: Tensor, b: Tensor, h: Tensor, q_index: Tensor, k_index: Tensor) -> Tensor:
        return score + rel_h[b, h, q_index, k_index // width] + rel_w[b, h, q_index, k_index % width]

    out: Tensor = _flex_attention(q.is_cuda)(q, k, v, score_mod=add_bias, scale=scale)
    return out


def _why_not(case: Case) -> str | None:
    if case.transformed:
        return NOT_TRANSFORMED
    if case.device == 'cuda' and case.options.get('head_dim', 16) < 16:
        return 'serves head sizes from 16 on'
    return None if case.named else 'used only by name (form="flex")'


BACKEND = Backend('flex', flex, _why_not)
