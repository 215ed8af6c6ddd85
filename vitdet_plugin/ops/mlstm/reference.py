"""The mLSTM cell, reference implementation, and the constants that all forms share."""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend

EPS = 1e-6
CLOSED_GATE = -1e30  #: input gate of a token that does not enter the memory; finite, so that differences are not NaN
_MAX_EXPONENT = 80.0  # below float32's overflow: beyond it h is 0 and gradients remain finite


def lower_bound(m: Tensor) -> Tensor:
    """Return exp(-m), the lower bound of the denominator."""
    return (-m).clamp(max=_MAX_EXPONENT).exp()


def parallel(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Reference implementation (materializes the (..., S, S) weights).

    Args:
        q, k, v: (..., S, d).
        i_gate: (..., S), before exp.
        log_f: (..., S), logarithm of the forget gate.
        chunk: not used.

    Returns:
        (..., S, d).
    """
    wide, length = torch.promote_types(q.dtype, i_gate.dtype), q.shape[-2]
    log_f, i_gate = log_f.to(wide), i_gate.to(wide)
    decay = log_f.cumsum(-1)
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    log_weights = (decay[..., :, None] - decay[..., None, :] + i_gate[..., None, :]).masked_fill(future, -torch.inf)
    m = log_weights.amax(-1, keepdim=True)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) * (log_weights - m).exp()
    bound = torch.maximum(weights.sum(-1, keepdim=True).abs(), lower_bound(m)) + EPS
    out: Tensor = (weights / bound).to(q.dtype) @ v
    return out


BACKEND = Backend('parallel', parallel, lambda case: None)
