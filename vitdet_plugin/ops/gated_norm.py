"""The compiled CPU kernels of the end of a Vision-LSTM layer: norm of each head, skip and gate in one pass.

They are functions of one layer, :class:`vitdet_plugin.layers.vil.ViLLayer`, which has the form for all other calls; so
there is no dispatch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.derivatives import derivative, recording
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS, why_not


def can_gate(h: Tensor, c: Tensor, z: Tensor) -> bool:
    """Whether the kernels can serve a call: compiled, inputs of one type on a CPU, and not traced."""
    return h.dtype == c.dtype == z.dtype and not torch.compiler.is_compiling() and why_not(case_of(h)) is None


def gated_norm(h: Tensor, c: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, skip: Tensor,
               eps: float) -> Tensor:
    """Return ``(norm(h) * weight + bias + skip * c) * silu(z)``, computed in float32 at least.

    Args:
        h: (heads, B, S, d); each head of a token is normalized to mean 0 and variance 1.
        c: (B, S, heads * d).
        z: (B, S, heads * d), contiguous or part of wider rows.
        weight, skip: (heads * d,), of any floating point type.
        bias: (heads * d,) or None.
        eps: added to the variance.

    Returns:
        (B, S, heads * d) with the dtype of ``h``.
    """
    out: Tensor = _GatedNorm.apply(h, c, z, weight, bias, skip, eps)
    return out


def _forward(h: Tensor, c: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, skip: Tensor, eps: float) -> Tensor:
    out: Tensor = torch.ops.vitdet_plugin.gated_norm(h, c, z, weight, bias, skip, eps)
    return out


def _backward(grad: Tensor, h: Tensor, c: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, skip: Tensor,
              eps: float) -> list[Tensor | None]:
    *grads, sums = torch.ops.vitdet_plugin.gated_norm_backward(grad, h, c, z, weight, bias, skip, eps)
    return [*grads, sums[0].to(weight.dtype), None if bias is None else sums[1].to(bias.dtype), sums[2].to(skip.dtype)]


def _formula(h: Tensor, c: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, skip: Tensor, eps: float) -> Tensor:
    wide = torch.promote_types(h.dtype, torch.float32)
    normed = F.layer_norm(h.to(wide), h.shape[-1:], eps=eps).permute(1, 2, 0, 3).flatten(2) * weight.to(wide)
    if bias is not None:
        normed = normed + bias.to(wide)
    return ((normed + skip.to(wide) * c.to(wide)) * F.silu(z.to(wide))).to(h.dtype)


class _GatedNorm(torch.autograd.Function):
    """Arguments and result of :func:`gated_norm`."""

    _save, _gradients = derivative(_backward, _formula, tensors=6)
    forward, backward = staticmethod(recording(_forward, _save)), staticmethod(_gradients)


def _register() -> None:
    """Register shapes for tracing."""
    def like_c(h: Tensor, c: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, skip: Tensor,
               eps: float) -> Tensor:
        return c.new_empty(c.shape)

    def like_inputs(grad: Tensor, h: Tensor, c: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, skip: Tensor,
                    eps: float) -> tuple[Tensor, ...]:
        wide = torch.promote_types(h.dtype, torch.float32)
        return h.new_empty(h.shape), c.new_empty(c.shape), c.new_empty(c.shape), c.new_empty(3, c.shape[2], dtype=wide)

    torch.library.register_fake(f'{NAMESPACE}::gated_norm', like_c)
    torch.library.register_fake(f'{NAMESPACE}::gated_norm_backward', like_inputs)


if STATUS['cpu'] is None:
    _register()
