"""The chunkwise mLSTM cell by Triton kernels, for GPUs; the formulas are those of ``chunkwise.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.mlstm import chunkwise
from vitdet_plugin.ops.mlstm.reference import CLOSED_GATE, EPS
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


class _Plan(NamedTuple):
    """Sizes of a call, and the factors that depend on the gates alone, float32."""

    tokens: int
    chunk: int
    chunks: int
    exponents: list[Tensor]  # key and query, each rounded and the rest; (G, chunks * chunk)
    entered: Tensor  # exp of key
    reached: Tensor  # exp of the maximum before the chunk minus query
    keep: Tensor  # (G, chunks)
    floor: Tensor
    largest: Tensor  # the j where u is largest so far, (G, chunks * chunk)


def _plan(q: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None) -> _Plan:
    tokens, dim = q.shape[1:]
    chunk = next_power_of_2(chunk or (64 if dim <= 128 else 128))
    missing = -tokens % chunk
    i_gate, log_f = F.pad(i_gate, (0, missing), value=CLOSED_GATE), F.pad(log_f, (0, missing))
    key, query, before, floor, index = chunkwise._chunk_gates(i_gate, log_f, chunk, torch.float32)
    shape = i_gate.shape
    exponents = [x.view(shape) for pair in (key, query) for x in chunkwise._split(pair, torch.float32)]
    reached = (before[..., None] - query).exp().float().view(shape)
    return _Plan(tokens, chunk, shape[1] // chunk, exponents, key.exp().float().view(shape), reached,
                 before.exp().float(), floor.contiguous(), index)


def _launch(name: str, kernel: Any, tensors: list[Tensor], plan: _Plan, dim: int, numbers: tuple[float, ...] = (),
            **constants: Any) -> None:
    """Launch a kernel for all blocks of dimensions and tokens; ``states`` loops over the tokens itself."""
    q = tensors[0]
    block_d = min(64, next_power_of_2(dim))
    blocks = -(-dim // block_d)
    wide = q.dtype == torch.float32
    sizes = [(32, 4, 1), (16, 4, 1)] if wide else [(64, 4, 3), (128, 8, 3), (128, 4, 3), (32, 4, 2)]
    choices = [Choice(dict(BLOCK=min(size, plan.chunk)), warps, stages) for size, warps, stages in sizes]
    choices = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]

    def launch(choice: Choice) -> None:
        items = blocks if name.startswith('states') else plan.chunks * (plan.chunk // choice.blocks['BLOCK'])
        kernel[(q.shape[0] * items * blocks,)](
            *tensors, plan.tokens, plan.chunks, dim ** -0.5 if not numbers else numbers[0], *numbers[1:], DIM=dim,
            BLOCK_D=block_d, CHUNK=plan.chunk, **constants, **dot_options(q.dtype), **choice.options)

    tuning.launch_tuned((f'mlstm {name}', dim, plan.chunk, q.dtype, shape_class(q.shape[0] * plan.chunks)), choices,
                        launch, q)


def _states(name: str, left: Tensor, right: Tensor, weight: Tensor, extra: Tensor, plan: _Plan, scale: float,
            reverse: bool) -> tuple[Tensor, Tensor]:
    from vitdet_plugin.ops.mlstm import triton_kernels
    groups, _, dim = left.shape
    states = left.new_empty(groups, plan.chunks, dim, dim, dtype=torch.float32)
    sums = left.new_empty(groups, plan.chunks, dim, dtype=torch.float32)
    _launch(f'states {name}', triton_kernels.states_kernel, [left, right, weight, extra, plan.keep, states, sums], plan,
            dim, (scale,), REVERSE=reverse)
    return states, sums


def _forward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor,
             chunk: int | None) -> tuple[Tensor, Tensor]:
    """(G, S, d) and (G, S) -> h (G, S, d) and sum_j A_tj (G, S)."""
    from vitdet_plugin.ops.mlstm import triton_kernels
    out, total = _outputs(q, k, v, i_gate, log_f, chunk)
    if not out.numel():
        return out, total
    q, k, v = (x.contiguous() for x in (q, k, v))
    plan = _plan(q, i_gate, log_f, chunk)
    states, sums = _states('forward', k, v, plan.entered, torch.ones_like(plan.entered), plan, 1.0, False)
    tensors = [q, k, v, *plan.exponents, plan.reached, plan.floor, states, sums, out, total]
    _launch('output', triton_kernels.output_kernel, tensors, plan, q.shape[2], (q.shape[2] ** -0.5, EPS))
    return out, total


def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, out: Tensor, total: Tensor,
              chunk: int | None) -> list[Tensor]:
    """Return the gradients of q, k, v and the gates; the comments of ``chunkwise._backward`` explain them."""
    from vitdet_plugin.ops.mlstm import triton_kernels
    inputs = (q, k, v, i_gate, log_f)
    if not out.numel():
        return [x.new_zeros(x.shape) for x in inputs]
    q, k, v = (x.contiguous() for x in (q, k, v))
    plan, dim, tokens = _plan(q, i_gate, log_f, chunk), q.shape[2], q.shape[1]
    groups, missing = q.shape[0], plan.chunks * plan.chunk - tokens
    floor = plan.floor[:, :tokens]
    bound = torch.maximum(total.abs(), floor) + EPS
    along = (grad.float() * out.float()).sum(-1)
    grad_n = (grad / bound[..., None].to(grad.dtype)).contiguous()
    grad_total = F.pad(torch.where(total.abs() > floor, -along / bound * total.sign(), 0.0), (0, missing))
    states, sums = _states('forward', k, v, plan.entered, torch.ones_like(plan.entered), plan, 1.0, False)
    grad_states, grad_sums = _states('backward', q, grad_n, plan.reached, grad_total, plan, dim ** -0.5, True)
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
    blocks = -(-dim // min(64, next_power_of_2(dim)))
    parts = [q.new_empty(blocks, groups, plan.chunks * plan.chunk, dtype=torch.float32) for _ in range(4)]
    common = [q, k, v, grad_n, *plan.exponents]
    _launch('queries', triton_kernels.query_gradient_kernel,
            [*common, plan.reached, grad_total, states, sums, grad_q, *parts[:2]], plan, dim)
    _launch('keys', triton_kernels.key_gradient_kernel,
            [*common, plan.entered, grad_total, grad_states, grad_sums, grad_k, grad_v, *parts[2:]], plan, dim)
    passing = (states * grad_states).sum((2, 3)) + (sums * grad_sums).sum(2)
    grad_i, grad_log_f = _gate_gradients([x.double().sum(0) for x in parts], passing * plan.keep, plan)
    grad_m = ((-EPS) * along / bound).double()
    grad_largest = torch.zeros_like(grad_m).scatter_add_(1, plan.largest[:, :tokens], grad_m)
    grad_i = grad_i[:, :tokens] + grad_largest
    grad_log_f = grad_log_f[:, :tokens] + chunkwise._suffix_sums(grad_m - grad_largest)
    return [grad_q, grad_k, grad_v, grad_i.to(i_gate.dtype), grad_log_f.to(log_f.dtype)]


def _gate_gradients(parts: list[Tensor], passing: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
    """Return the gradients of i~ and log f without those of the stabilizer, (G, chunks * chunk), in float64.

    Args:
        parts: products of q and k with their gradients through the own chunk and the states, in this order.
        passing: product of each state and its gradient with what is kept of it, (G, chunks).
        plan: sizes.
    """
    rows, reached, columns, entered = (x.unflatten(1, (plan.chunks, plan.chunk)) for x in parts)
    grad_log_f = chunkwise._suffix_sums(rows - columns + reached) + passing.double()[..., None]
    grad_log_f[..., 1:] += entered.cumsum(-1)[..., :-1]
    return (columns + entered).flatten(1), grad_log_f.flatten(1)


def _outputs(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor,
             chunk: int | None) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


def _cast(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None) -> list[Any]:
    return [*triton_support.to_widest(q, k, v), i_gate.float(), log_f.float(), chunk]


_operator = Differentiable(
    'mlstm_triton', f'({_INPUTS}, int? chunk) -> (Tensor, Tensor)', _forward, _outputs,
    Registered('mlstm_triton_backward', f'(Tensor grad, {_INPUTS}, Tensor out, Tensor total, int? chunk) -> Tensor[]',
               _backward, lambda grad, *saved: [x.new_empty(x.shape) for x in saved[:5]]),
    saved=(0, 1), cast=_cast)


def _why_not(case: Case) -> str | None:
    if reason := triton_support.why_not(case):
        return reason
    tokens = case.options.get('tokens')
    if not case.named and tokens is not None and tokens <= chunkwise.SHORT:
        return f'slower than parallel for up to {chunkwise.SHORT} tokens'
    return None


BACKEND = Backend('triton', run, _why_not)
