"""Attention by the compiled CPU kernels, with or without relative position bias."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.derivatives import derivative, register_derivative
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS, why_not
from vitdet_plugin.ops.rel_pos_attention.reference import dense
from vitdet_plugin.utils.exporting import is_exporting

#: Instruction set of the kernel and the types that it computes fast on this processor; empty if it is not compiled.
FEATURES: Sequence[str] = () if STATUS['cpu'] else torch.ops.vitdet_plugin.attention_features().split()


def attention_cpu(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None,
                  scale: float) -> Tensor:
    """Compiled kernel. Arguments as :func:`vitdet_plugin.ops.rel_pos_attention.rel_pos_attention`; the bias may be
    None."""
    if scale <= 0:
        q, scale = q * scale, 1.0
    k, v = k.to(q.dtype), v.to(q.dtype)
    if needs_grad(q, k, v, rel_h, rel_w):
        out: Tensor = torch.ops.vitdet_plugin.attention_forward(q, k, v, rel_h, rel_w, scale)[0]
    else:
        out = torch.ops.vitdet_plugin.attention(q, k, v, rel_h, rel_w, scale)
    return out.transpose(1, 2)


def window_attention_cpu(qkv: Tensor, padding: Tensor | None, tables: tuple[Tensor, Tensor] | None, heads: int,
                         window: int, shift: int, scale: float) -> Tensor:
    """Attention within windows of a map, or within the whole map, without copies of the windows; for inference.

    Args:
        qkv: (B, H, W, 3 * heads * d): queries, keys and values.
        padding: (3 * heads * d,), the token outside the map; None for zeros.
        tables: relative positions (2 h - 1, d) and (2 w - 1, d) of windows of h x w tokens; None for no bias.
        heads: number of heads.
        window: side of the windows in tokens; 0 for the whole map.
        shift: rows and columns by which the windows' grid is shifted up and left.
        scale: positive factor of the scores.

    Returns:
        (B, H, W, heads * d).
    """
    table_h, table_w = tables or (None, None)
    out: Tensor = torch.ops.vitdet_plugin.window_attention(qkv, padding, table_h, table_w, heads, window, shift, scale)
    return out


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether autograd records an operation on these tensors."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def compiled_attention(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return :class:`CompiledAttention` for inputs on a CPU, or a context that changes nothing on other devices, where
    each function would take longer, and for captured graphs."""
    if FEATURES and x.device.type == 'cpu' and not torch.compiler.is_compiling() and not is_exporting():
        return CompiledAttention()
    return contextlib.nullcontext()


class CompiledAttention(TorchFunctionMode):
    """Context in which calls of PyTorch's ``scaled_dot_product_attention`` use the compiled kernel where it can serve.

    Other calls are not changed: those with a mask or dropout, on other devices, or of other types. The context concerns
    the current thread only.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and len(args) == 3 and _is_plain(*args, **kwargs):
            scale = kwargs.get('scale')
            return attention_cpu(*args, None, None, args[0].shape[-1] ** -0.5 if scale is None else scale)
        return func(*args, **kwargs)


def _is_plain(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
              is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> bool:
    shapes = q.ndim == 4 and k.shape == v.shape and q.shape[:2] == k.shape[:2] and q.shape[3] == k.shape[3]
    plain = attn_mask is None and not dropout_p and not is_causal and shapes and k.shape[2] > 0
    return plain and q.dtype == k.dtype == v.dtype and why_not_served(case_of(q)) is None


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    def like_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None,
                       scale: float) -> Tensor:
        return q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3])

    def like_forward(q: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        return like_attention(q, *others), q.new_empty(*q.shape[:3], 2, dtype=torch.float32)

    def like_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None,
                      *others: Any) -> tuple[Tensor, ...]:
        to_tokens = (x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2) for x in (q, k, v))
        to_bias = (q.new_empty([0] if x is None else x.shape, dtype=torch.float32) for x in (rel_h, rel_w))
        return *to_tokens, *to_bias

    def backward(grad: Tensor, *arguments: Any) -> list[Tensor | None]:
        found = torch.ops.vitdet_plugin.attention_backward(grad, *arguments)
        return [None if x is None else each.to(x.dtype) for x, each in zip(arguments, found, strict=False)]

    def formula(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None, scale: float) -> Tensor:
        if rel_h is None or rel_w is None:
            out = ((q * scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        else:
            out = dense(q, k, v, rel_h, rel_w, scale)
        return out.transpose(1, 2)

    def like_window_attention(qkv: Tensor, padding: Tensor | None, table_h: Tensor | None, table_w: Tensor | None,
                              heads: int, window: int, shift: int, scale: float) -> Tensor:
        return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)

    torch.library.register_fake(f'{NAMESPACE}::attention', like_attention)
    torch.library.register_fake(f'{NAMESPACE}::attention_forward', like_forward)
    torch.library.register_fake(f'{NAMESPACE}::attention_backward', like_backward)
    register_derivative(f'{NAMESPACE}::attention_forward', *derivative(backward, formula, tensors=5, saved=(0, 1)))
    torch.library.register_fake(f'{NAMESPACE}::window_attention', like_window_attention)


if STATUS['cpu'] is None:
    _register()


def why_not_served(case: Case) -> str | None:
    """Return why the kernel cannot serve a call, or None."""
    if reason := why_not(case):
        return reason
    dtype = torch.float32 if case.dtype is None else case.dtype
    if dtype not in (torch.float32, torch.bfloat16):
        return f'serves float32 and bfloat16, not {str(dtype).removeprefix("torch.")}'
    if dtype == torch.bfloat16 and 'bfloat16' not in FEATURES:
        return 'bfloat16 requires a processor with AVX-512 BF16'
    if dtype == torch.float32 and 'float32' not in FEATURES and not case.named:
        return 'slower than products of PyTorch on a processor without AVX2'
    return None


BACKEND = Backend('cpu', attention_cpu, why_not_served)
