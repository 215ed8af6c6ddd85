"""The chunkwise form as a backend; in compiled graphs as one operator, because its chunks depend on the length."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.mlstm import chunkwise
from vitdet_plugin.utils.precision import no_autocast

_INPUTS = 'Tensor q, Tensor k, Tensor v, Tensor i_gate, Tensor log_f'


def run(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Process ``chunk`` tokens at a time; arguments as :func:`vitdet_plugin.ops.mlstm.chunkwise.chunkwise`."""
    if not torch.compiler.is_compiling():
        return chunkwise.chunkwise(q, k, v, i_gate, log_f, chunk)
    flat = [x.flatten(0, -3).contiguous() for x in (q, k.to(q.dtype), v.to(q.dtype))]
    gates = [x.flatten(0, -2).contiguous() for x in (i_gate, log_f)]
    out: Tensor = _forward(*flat, *gates, chunk)[0]
    return out.view(q.shape)


def _chunk(q: Tensor, chunk: int | None) -> tuple[int, int]:
    """Return the tokens in a chunk, and the tokens that are missing for whole chunks."""
    length, dim = q.shape[-2:]
    chunk = chunk or chunkwise.chunk_length(length, dim)
    return chunk, -length % chunk


@torch.library.custom_op(f'{NAMESPACE}::mlstm_chunkwise', mutates_args=(),
                         schema=f'({_INPUTS}, int? chunk) -> (Tensor, Tensor)')
def _forward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor,
             chunk: int | None) -> tuple[Tensor, Tensor]:
    """Contiguous (G, S, d) and (G, S) -> h (G, S, d) and sum_j A_tj (G, S)."""
    chunk, missing = _chunk(q, chunk)
    out, total = chunkwise.forward(*chunkwise.pad((q, k, v, i_gate, log_f), missing), chunk)
    length = q.shape[1]
    return out[:, :length].contiguous(), total[:, :length].contiguous()


@torch.library.custom_op(f'{NAMESPACE}::mlstm_chunkwise_backward', mutates_args=(),
                         schema=f'({_INPUTS}, Tensor out, Tensor total, Tensor grad_out, int? chunk) -> Tensor[]')
def _backward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, out: Tensor, total: Tensor,
              grad_out: Tensor, chunk: int | None) -> list[Tensor]:
    chunk, missing = _chunk(q, chunk)
    padded = chunkwise.pad((q, k, v, i_gate, log_f), missing)
    with no_autocast(q.device.type):
        out, grad_out = (F.pad(x, (0, 0, 0, missing)) for x in (out, grad_out))
        gradients = chunkwise._backward(*padded, out, F.pad(total, (0, missing)), grad_out, chunk)
    return [x[:, :q.shape[1]].contiguous() for x in gradients]


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    def outputs(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor,
                chunk: int | None) -> tuple[Tensor, Tensor]:
        return torch.empty_like(q), torch.empty_like(i_gate, dtype=torch.promote_types(q.dtype, torch.float32))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.chunk = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.mark_non_differentiable(output[1])

    def backward(ctx: Any, grad_out: Tensor, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        return *_backward(*ctx.saved_tensors, grad_out, ctx.chunk), None

    _forward.register_fake(outputs)
    _backward.register_fake(lambda *inputs: [torch.empty_like(x) for x in inputs[:5]])
    _forward.register_autograd(backward, setup_context=setup_context)


_register()


def _why_not(case: Case) -> str | None:
    if case.named:
        return None
    if case.exporting:
        return 'cannot be exported to ONNX'
    tokens = case.options.get('tokens')
    if tokens is not None and tokens <= chunkwise.SHORT:
        return f'slower than parallel for up to {chunkwise.SHORT} tokens'
    return None


BACKEND = Backend('chunkwise', run, _why_not)
