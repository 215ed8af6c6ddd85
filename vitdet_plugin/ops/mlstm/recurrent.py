"""The mLSTM cell as a recurrence over the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.mlstm.reference import EPS, lower_bound


def recurrent(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Process one token at a time, with memory C (..., d, d) and normalizer n (..., d) in float64.

    Arguments as :func:`vitdet_plugin.ops.mlstm.reference.parallel`.
    """
    dtype, wide = q.dtype, torch.float64
    q, k, v, i_gate, log_f = (x.to(wide) for x in (q * q.shape[-1] ** -0.5, k, v, i_gate, log_f))
    memory, normalizer = k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1]), torch.zeros_like(k[..., 0, :])
    m, outs = torch.full_like(i_gate[..., 0], -torch.inf), []
    for t in range(q.shape[-2]):
        m_next = torch.maximum(log_f[..., t] + m, i_gate[..., t])
        forget = (log_f[..., t] + m - m_next).exp()[..., None]
        enter = (i_gate[..., t] - m_next).exp()[..., None]
        memory = forget[..., None] * memory + (enter * k[..., t, :])[..., :, None] * v[..., t, None, :]
        normalizer = forget * normalizer + enter * k[..., t, :]
        total = (normalizer * q[..., t, :]).sum(-1)
        bound = torch.maximum(total.abs(), lower_bound(m_next)) + EPS
        outs.append((q[..., t, None, :] @ memory).squeeze(-2) / bound[..., None])
        m = m_next
    return torch.stack(outs, -2).to(dtype)


def _why_not(case: Case) -> str | None:
    return None if case.named else 'used only by name (form="recurrent")'


BACKEND = Backend('recurrent', recurrent, _why_not)
