"""Outlook attention, reference implementation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend


def outlook_attention_plain(v: Tensor, a: Tensor, num_heads: int, kernel_size: int, stride: int, padding: int,
                            scale: float, dropout: float) -> Tensor:
    """Reference implementation (materializes the unfolded values and the probabilities).

    Arguments as :func:`vitdet_plugin.ops.outlook_attention.outlook_attention`.
    """
    batch, height, width, channels = v.shape
    positions, windows = kernel_size**2, a.shape[1] * a.shape[2]
    unfolded = F.unfold(v.permute(0, 3, 1, 2), kernel_size, padding=padding, stride=stride)  # (B, C * k^2, N)
    unfolded = unfolded.reshape(batch, num_heads, channels // num_heads, positions, windows).permute(0, 1, 4, 3, 2)
    scores = a.reshape(batch, windows, num_heads, positions, positions).permute(0, 2, 1, 3, 4)
    weights = F.dropout((scores * scale).softmax(-1).to(v.dtype), dropout)  # (B, heads, N, k^2, k^2)
    out = (weights @ unfolded).permute(0, 1, 4, 3, 2).reshape(batch, channels * positions, windows)
    out = F.fold(out, (height, width), kernel_size, padding=padding, stride=stride)
    return out.permute(0, 2, 3, 1).contiguous()


BACKEND = Backend('plain', outlook_attention_plain, lambda case: None)
