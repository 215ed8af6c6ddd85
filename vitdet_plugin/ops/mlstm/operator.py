"""The chunkwise form as a backend; in compiled graphs as one operator, because its chunks depend on the length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Backend, Case
from vitdet_plugin.ops.mlstm import chunkwise
from vitdet_plugin.ops.mlstm.reference import parallel
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.utils.precision import no_autocast

_INPUTS = 'Tensor q, Tensor k, Tensor v, Tensor i_gate, Tensor log_f'


def run(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Process ``chunk`` tokens at a time; no S x S tensor is created.

    Arguments as :func:`vitdet_plugin.ops.mlstm.reference.parallel`; ``chunk`` is chosen if None.
    """
    flat = [x.reshape(-1, *q.shape[-2:]) for x in (q, k.to(q.dtype), v.to(q.dtype))]
    flat += [x.reshape(-1, x.shape[-1]) for x in (i_gate, log_f)]
    if torch.compiler.is_compiling():
        flat = [x.contiguous() for x in flat]
    out: Tensor = _operator(*flat, chunk)[0]
    return out.view(q.shape)


def _chunk(q: Tensor, chunk: int | None) -> tuple[int, int]:
    """Return the tokens in a chunk, and the tokens that are missing for whole chunks."""
    length, dim = q.shape[-2:]
    chunk = chunk or chunkwise.chunk_length(length, dim)
    return chunk, -length % chunk


def _forward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor,
             chunk: int | None) -> tuple[Tensor, Tensor]:
    """(G, S, d) and (G, S) -> h (G, S, d) and sum_j A_tj (G, S)."""
    chunk, missing = _chunk(q, chunk)
    out, total = chunkwise.forward(*chunkwise.pad((q, k, v, i_gate, log_f), missing), chunk)
    length = q.shape[1]
    return out[:, :length].contiguous(), total[:, :length].contiguous()


def _backward(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, out: Tensor,
              total: Tensor, chunk: int | None) -> list[Tensor]:
    chunk, missing = _chunk(q, chunk)
    padded = chunkwise.pad((q, k, v, i_gate, log_f), missing)
    with no_autocast(q.device.type):
        if missing:
            out, grad_out = (F.pad(x, (0, 0, 0, missing)) for x in (out, grad_out))
            total = F.pad(total, (0, missing))
        gradients = chunkwise.backward(*padded, out, total, grad_out, chunk)
    return [x[:, :q.shape[1]].contiguous() for x in gradients]


def _outputs(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor,
             chunk: int | None) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))


_operator = Differentiable(
    'mlstm_chunkwise', f'({_INPUTS}, int? chunk) -> (Tensor, Tensor)', _forward, _outputs,
    Registered('mlstm_chunkwise_backward',
               f'(Tensor grad_out, {_INPUTS}, Tensor out, Tensor total, int? chunk) -> Tensor[]', _backward,
               lambda grad_out, *saved: [x.new_empty(x.shape) for x in saved[:5]], compiled_only=True),
    reference=parallel, saved=(0, 1), cast=lambda *arguments: arguments, compiled_only=True)


def _why_not(case: Case) -> str | None:
    if case.transformed:
        return NOT_TRANSFORMED
    if case.named:
        return None
    if case.exporting:
        return 'cannot be exported to ONNX'
    tokens = case.options.get('tokens')
    if tokens is not None and tokens <= chunkwise.SHORT:
        return f'slower than parallel for up to {chunkwise.SHORT} tokens'
    return None


BACKEND = Backend('chunkwise', run, _why_not)
