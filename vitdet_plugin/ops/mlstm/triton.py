"""The chunkwise mLSTM cell by Triton kernels, for GPUs; the formulas are those of ``chunkwise.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.mlstm import chunkwise
from vitdet_plugin.ops.mlstm.reference import CLOSED_GATE, EPS, parallel
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.triton_support import dot_options, next_power_of_2
from vitdet_plugin.ops.tuning import Choice, shape_class

_INPUTS = 'Tensor q, Tensor k, Tensor v, Tensor i_gate, Tensor log_f'


def run(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Process chunks of tokens; arguments as :func:`vitdet_plugin.ops.mlstm.reference.parallel`.

    ``chunk`` is rounded up to a power of 2, at least 16.
    """
    flat = [x.flatten(0, -3) if x.ndim > 3 else x.reshape(-1, *x.shape[-2:]) for x in (q, k.to(q.dtype), v.to(q.dtype))]
    gates = [x.reshape(-1, x.shape[-1]) for x in (i_gate, log_f)]
    out: Tensor = _operator(*flat, *gates, chunk)[0]
    return out.view(q.shape)


class _Gates(NamedTuple):
    """What depends on the gates alone; float32 (G, chunks * chunk) if nothing else is said."""

    key: Tensor
    key_rest: Tensor  # what rounding left
    query: Tensor
    query_rest: Tensor
    entered: Tensor  # exp of key
    reached: Tensor  # exp of the maximum before the chunk minus query
    keep: Tensor  # (G, chunks)
    floor: Tensor
    largest: Tensor  # the j where u is largest so far, int64

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.keep.shape[1]

    @property
    def chunk(self) -> int:
        """Tokens in each chunk."""
        return self.key.shape[1] // self.chunks


def _chunk_length(dim: int, chunk: int | None) -> int:
    return next_power_of_2(chunk or (64 if dim <= 128 else 128))


def _gates(q: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None) -> _Gates:
    tokens, dim = q.shape[1:]
    chunk = _chunk_length(dim, chunk)
    if missing := -tokens % chunk:
        i_gate, log_f = F.pad(i_gate, (0, missing), value=CLOSED_GATE), F.pad(log_f, (0, missing))
    key, query, before, floor, index = chunkwise.chunk_gates(i_gate, log_f, chunk, torch.float32)
    shape = i_gate.shape
    key_parts, query_parts = ([part.view(shape) for part in chunkwise.split_in_two(x, torch.float32)]
                              for x in (key, query))
    reached = (before[..., None] - query).exp().float().view(shape)
    return _Gates(key_parts[0], key_parts[1], query_parts[0], query_parts[1], key.exp().float().view(shape), reached,
                  before.exp().float(), floor.contiguous(), index)


def _launch(name: str, kernel: Any, tensors: list[Tensor], gates: _Gates, dim: int, numbers: tuple[float, ...] = (),
            **constants: Any) -> None:
    """Launch a kernel for all blocks of dimensions and tokens; ``states`` loops over the tokens itself."""
    q = tensors[0]
    tokens = q.shape[1]
    block_d = min(64, next_power_of_2(dim))
    blocks = -(-dim // block_d)
    wide = q.dtype == torch.float32
    sizes = [(32, 4, 1), (16, 4, 1)] if wide else [(64, 4, 3), (128, 8, 3), (128, 4, 3), (32, 4, 2)]
    choices = [Choice(dict(BLOCK=min(size, gates.chunk)), warps, stages) for size, warps, stages in sizes]
    choices = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]

    def launch(choice: Choice) -> None:
        items = blocks if name.startswith('states') else gates.chunks * (gates.chunk // choice.blocks['BLOCK'])
        kernel[(q.shape[0] * items * blocks,)](
            *tensors, tokens, gates.chunks, dim ** -0.5 if not numbers else numbers[0], *numbers[1:], DIM=dim,
            BLOCK_D=block_d, CHUNK=gates.chunk, **constants, **dot_options(q.dtype), **choice.options)

    tuning.launch_tuned((f'mlstm {name}', dim, gates.chunk, q.dtype, shape_class(q.shape[0] * gates.chunks)), choices,
                        launch, q)


def _states(name: str, left: Tensor, right: Tensor, weight: Tensor, extra: Tensor, gates: _Gates, scale: float,
            reverse: bool) -> tuple[Tensor, Tensor]:
    from vitdet_plugin.ops.mlstm import triton_kernels
    groups, _, dim = left.shape
    states = left.new_empty(groups, gates.chunks, dim, dim, dtype=torch.float32)
    sums = left.new_empty(groups, gates.chunks, dim, dtype=torch.float32)
    _launch(f'states {name}', triton_kernels.states_kernel, [left, right, weight, extra, gates.keep, states, sums],
            gates, dim, (scale,), REVERSE=reverse)
    return states, sums


def _forward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None) -> tuple[Tensor, ...]:
    """(G, S, d) and (G, S) -> h (G, S, d), sum_j A_tj (G, S), and the tensors of :class:`_Gates`."""
    from vitdet_plugin.ops.mlstm import triton_kernels
    if not q.numel():
        return _outputs(q, k, v, i_gate, log_f, chunk)
    q, k, v = (x.contiguous() for x in (q, k, v))
    out, total = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
    gates = _gates(q, i_gate, log_f, chunk)
    states, sums = _states('forward', k, v, gates.entered, torch.ones_like(gates.entered), gates, 1.0, False)
    tensors = [q, k, v, *gates[:4], gates.reached, gates.floor, states, sums, out, total]
    _launch('output', triton_kernels.output_kernel, tensors, gates, q.shape[2], (q.shape[2] ** -0.5, EPS))
    return out, total, *gates


def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, out: Tensor, total: Tensor,
              *others: Any) -> list[Tensor]:
    """Return the gradients of q, k, v and the gates; the comments of ``chunkwise.backward`` explain them.

    ``others`` are the tensors of :class:`_Gates`, and the argument ``chunk``.
    """
    from vitdet_plugin.ops.mlstm import triton_kernels
    if not out.numel():
        return [x.new_zeros(x.shape) for x in (q, k, v, i_gate, log_f)]
    q, k, v = (x.contiguous() for x in (q, k, v))
    gates, dim, tokens = _Gates(*others[:-1]), q.shape[2], q.shape[1]
    groups, missing = q.shape[0], gates.chunks * gates.chunk - tokens
    floor = gates.floor[:, :tokens]
    bound = torch.maximum(total.abs(), floor) + EPS
    along = (grad.float() * out.float()).sum(-1)
    grad_n = (grad / bound[..., None].to(grad.dtype)).contiguous()
    grad_total = torch.where(total.abs() > floor, -along / bound * total.sign(), 0.0)
    if missing:
        grad_total = F.pad(grad_total, (0, missing))
    states, sums = _states('forward', k, v, gates.entered, torch.ones_like(gates.entered), gates, 1.0, False)
    grad_states, grad_sums = _states('backward', q, grad_n, gates.reached, grad_total, gates, dim ** -0.5, True)
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
    blocks = -(-dim // min(64, next_power_of_2(dim)))
    parts = q.new_empty(4, blocks, groups, gates.chunks * gates.chunk, dtype=torch.float32)
    common = [q, k, v, grad_n, *gates[:4]]
    _launch('queries', triton_kernels.query_gradient_kernel,
            [*common, gates.reached, grad_total, states, sums, grad_q, parts[0], parts[1]], gates, dim)
    _launch('keys', triton_kernels.key_gradient_kernel,
            [*common, gates.entered, grad_total, grad_states, grad_sums, grad_k, grad_v, parts[2], parts[3]], gates,
            dim)
    passing = (states * grad_states).sum((2, 3)) + (sums * grad_sums).sum(2)
    grad_i, grad_log_f = _gate_gradients(parts.sum(1, dtype=torch.float64), passing * gates.keep, gates)
    grad_m = ((-EPS) * along / bound).double()
    grad_largest = torch.zeros_like(grad_m).scatter_add_(1, gates.largest[:, :tokens], grad_m)
    grad_i = grad_i[:, :tokens] + grad_largest
    grad_log_f = grad_log_f[:, :tokens] + chunkwise.suffix_sums(grad_m - grad_largest)
    return [grad_q, grad_k, grad_v, grad_i.to(i_gate.dtype), grad_log_f.to(log_f.dtype)]


def _gate_gradients(parts: Tensor, passing: Tensor, gates: _Gates) -> tuple[Tensor, Tensor]:
    """Return the gradients of i~ and log f without those of the stabilizer, (G, chunks * chunk), in float64.

    Args:
        parts: products of q and k with their gradients through the own chunk and the states, in this order; (4, G,
            chunks * chunk).
        passing: product of each state and its gradient with what is kept of it, (G, chunks).
        gates: sizes.
    """
    rows, reached, columns, entered = parts.unflatten(2, (gates.chunks, gates.chunk))
    grad_log_f = chunkwise.suffix_sums(rows - columns + reached) + passing.double()[..., None]
    grad_log_f[..., 1:] += entered.cumsum(-1)[..., :-1]
    return (columns + entered).flatten(1), grad_log_f.flatten(1)


def _outputs(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None) -> tuple[Tensor, ...]:
    """Return empty results of :func:`_forward`."""
    groups, tokens, dim = q.shape
    length = _chunk_length(dim, chunk)
    chunks = (tokens + length - 1) // length
    gates = [q.new_empty(groups, chunks * length, dtype=torch.float32) for _ in range(7)]
    gates.insert(6, q.new_empty(groups, chunks, dtype=torch.float32))
    largest = q.new_empty(groups, chunks * length, dtype=torch.int64)
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32), *gates, largest


def _cast(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None) -> list[Any]:
    return [*triton_support.to_widest(q, k, v), i_gate.float(), log_f.float(), chunk]


_GATES = ', '.join(f'Tensor {name}' for name in _Gates._fields)
_RESULTS = 2 + len(_Gates._fields)
_operator = Differentiable(
    'mlstm_triton', f'({_INPUTS}, int? chunk) -> ({", ".join(["Tensor"] * _RESULTS)})', _forward, _outputs,
    Registered('mlstm_triton_backward',
               f'(Tensor grad, {_INPUTS}, Tensor out, Tensor total, {_GATES}, int? chunk) -> Tensor[]', _backward,
               lambda grad, *saved: [x.new_empty(x.shape) for x in saved[:5]]),
    reference=parallel, saved=range(_RESULTS), cast=_cast)


def _why_not(case: Case) -> str | None:
    if reason := triton_support.why_not(case):
        return reason
    tokens = case.options.get('tokens')
    if not case.named and tokens is not None and tokens <= chunkwise.SHORT:
        return f'slower than parallel for up to {chunkwise.SHORT} tokens'
    return None


BACKEND = Backend('triton', run, _why_not)
