"""Softmax over runs of the last dimension, reference implementation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend


def tap_softmax_pytorch(logits: Tensor, taps: int) -> Tensor:
    """(..., runs * taps) -> (..., runs * taps)."""
    return F.softmax(logits.unflatten(-1, (-1, taps)), -1).flatten(-2).to(logits.dtype)


BACKEND = Backend('pytorch', tap_softmax_pytorch, lambda case: None)
