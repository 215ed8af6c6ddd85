"""Reference for the mLSTM cell: the parallel form, with gradients by autograd."""

import torch
import torch.nn.functional as F
from torch import Tensor


def parallel_mlstm(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, f_gate: Tensor, **_: object) -> Tensor:
    """(..., S, d), gates (..., S) -> (..., S, d); several S x S tensors a head (arXiv 2405.04517, appendix A)."""
    length, dim = q.shape[-2:]
    sums = F.logsigmoid(f_gate.float()).cumsum(-1)
    log_decay = sums[..., :, None] - sums[..., None, :]
    past = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    log_weights = torch.where(past, log_decay, -torch.inf) + i_gate.float()[..., None, :]
    m = log_weights.max(-1, keepdim=True).values
    weights = (q @ (k / dim ** 0.5).transpose(-2, -1)) * torch.exp(log_weights - m)
    bound = torch.maximum(weights.sum(-1, keepdim=True).abs(), torch.exp(-m))
    return (weights / (bound + 1e-6)).to(v.dtype) @ v
