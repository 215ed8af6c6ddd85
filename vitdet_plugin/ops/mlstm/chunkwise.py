"""The mLSTM cell in chunks of tokens, in time and memory linear in the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitdet_plugin.ops.mlstm.reference import CLOSED_GATE, EPS, lower_bound
from vitdet_plugin.utils.precision import no_autocast

SHORT = 64  #: tokens up to which the parallel form is faster
_PART = 64  # minimum number of rows of a chunk for which separate products are worthwhile


def chunkwise(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Process ``chunk`` tokens at a time; no S x S tensor is created.

    Arguments as :func:`vitdet_plugin.ops.mlstm.reference.parallel`; ``chunk`` is chosen if None.
    """
    length, dim = q.shape[-2:]
    chunk = chunk or chunk_length(length, dim, q.device.type)
    flat = [x.reshape(-1, length, dim) for x in (q, k.to(q.dtype), v.to(q.dtype))]
    gates = [x.reshape(-1, length) for x in (i_gate, log_f)]
    out: Tensor = _Chunkwise.apply(*pad([*flat, *gates], -length % chunk), chunk)
    return out[:, :length].reshape(q.shape)


def pad(tensors: Sequence[Tensor], missing: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Append tokens on which no other depends to q, k, v, i_gate and log_f; shapes as those of :func:`forward`."""
    q, k, v, i_gate, log_f = tensors
    if not missing:
        return q, k, v, i_gate, log_f
    q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
    return q, k, v, F.pad(i_gate, (0, missing), value=CLOSED_GATE), F.pad(log_f, (0, missing))


def chunk_length(length: int, dim: int, device: str = 'cpu') -> int:
    """Return the number of tokens in each chunk.

    Chunks of L tokens cost S * (L + dim) * dim * 2 products for each head, and S / L memories of dim x dim. L is about
    the head dimension, so that all memories together take no more space than the tokens; a length that divides S is
    preferred, as it needs no padding. A sequence that is not much longer than two such chunks is one chunk.
    """
    aim = min(256, max(64, 1 << (dim - 1).bit_length() - 1))
    if length <= max(200, 2 * aim):
        return length
    count = -(-length // aim)
    for chunks in sorted(range(count * 2 // 3, count * 3 // 2 + 1), key=lambda n: abs(n - count)):
        if chunks and length % chunks == 0:
            return length // chunks
    return aim


def _chunk_gates(i_gate: Tensor, log_f: Tensor, chunk: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Compute all that depends on the gates alone, with sums in float64, as they run over the whole sequence.

    Returns:
        key (G, N, L): u_j - top, query (G, N, L): max_{j<=t} u_j - top, before (G, N): the maximum before the chunk -
        top, where top is the maximum at the chunk's end; all at most 0. floor (G, S): exp(-m_t). index (G, S): the j
        where u is largest so far.
    """
    decay = log_f.double().cumsum(-1)
    u = i_gate.double() - decay
    highest, index = u.cummax(-1)
    floor = lower_bound(decay + highest).to(dtype)
    u, highest = u.unflatten(-1, (-1, chunk)), highest.unflatten(-1, (-1, chunk))
    top = highest[..., -1:]
    before = torch.cat([highest[:, :1, :1], top[:, :-1]], 1)  # none before the first chunk: any finite value
    return (u - top).to(dtype), (highest - top).to(dtype), (before - top).squeeze(-1).to(dtype), floor, index


def _parts(chunk: int) -> list[slice]:
    """Split the rows of a chunk; the rows of a part need no columns after it, which saves products with zeros."""
    count = max(1, chunk // _PART)
    ends = [chunk * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(ends, ends[1:])]


def _within(key: Tensor, query: Tensor, rows: slice) -> Tensor:
    """Return exp(u_j - max_{j<=t} u_j), (G * N, rows, rows.stop), zero for j > t."""
    exponents = key.flatten(0, 1)[:, None, :rows.stop] - query.flatten(0, 1)[:, rows, None]
    return exponents.clamp_(max=0).exp_().tril_(rows.start)


def _memories(k_weighted: Tensor, v: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state before each chunk: C (G * N, d, d) and n (G * N, d), zero before the first."""
    groups, chunks = keep.shape
    shape = (groups, chunks)
    wide = keep.dtype
    memory = k_weighted.new_zeros(*shape, k_weighted.shape[-1], v.shape[-1], dtype=wide)
    normalizer = k_weighted.new_zeros(*shape, k_weighted.shape[-1], dtype=wide)
    entering = torch.bmm(k_weighted.transpose(1, 2), v).unflatten(0, shape)
    sums = k_weighted.sum(1, dtype=wide).unflatten(0, shape)
    for c in range(1, chunks):
        torch.addcmul(entering[:, c - 1], memory[:, c - 1], keep[:, c - 1, None, None], out=memory[:, c])
        torch.addcmul(sums[:, c - 1], normalizer[:, c - 1], keep[:, c - 1, None], out=normalizer[:, c])
    return memory.flatten(0, 1), normalizer.flatten(0, 1)


def forward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """q, k, v: (G, S, d); i_gate, log_f: (G, S); S a multiple of ``chunk`` -> h (G, S, d) and sum_j A_tj (G, S)."""
    groups, length, dim = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    with no_autocast(q.device.type):
        key, query, before, floor, _ = _chunk_gates(i_gate, log_f, chunk, wide)
        qc, kc, vc = (x.reshape(-1, chunk, dim) for x in (q, k, v))
        totals, outs = [], []
        for rows in _parts(chunk):
            weights = _scaled_bmm(qc[:, rows], kc[:, :rows.stop].transpose(1, 2), dim ** -0.5).to(wide)
            weights.mul_(_within(key, query, rows))
            totals.append(weights.sum(-1))
            outs.append(torch.bmm(weights.to(v.dtype), vc[:, :rows.stop]))
            del weights
        total, out = torch.cat(totals, 1), torch.cat(outs, 1)
        del outs
        if length > chunk:
            entered = key.exp().flatten(0, 1)[..., None].to(k.dtype)
            memory, normalizer = _memories(kc * entered, vc, before.exp())
            reached = (before[..., None] - query).exp_().mul_(dim ** -0.5).flatten(0, 1)[..., None]
            q_reached = qc * reached.to(q.dtype)
            total += torch.bmm(q_reached, normalizer.to(q.dtype)[..., None]).squeeze(-1)
            out.baddbmm_(q_reached, memory.to(q.dtype))
        total = total.view(groups, length)
        out = out.view(groups, length, dim)
        out.div_((torch.maximum(total.abs(), floor) + EPS)[..., None])
    return out, total


class _Chunkwise(torch.autograd.Function):
    """q, k, v: (G, S, d); i_gate, log_f: (G, S); S a multiple of ``chunk`` -> (G, S, d)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int) -> Tensor:
        out, total = forward(q, k, v, i_gate, log_f, chunk)
        ctx.save_for_backward(q, k, v, i_gate, log_f, out, total)
        ctx.chunk = chunk
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, i_gate, log_f, out, total = ctx.saved_tensors
        with no_autocast(q.device.type):
            return *_backward(q, k, v, i_gate, log_f, out, total, grad_out, ctx.chunk), None


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    empty = a.new_empty(())
    return torch.baddbmm(empty, a, b, beta=0, alpha=scale)


def _backward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, out: Tensor, total: Tensor,
              grad_out: Tensor, chunk: int) -> tuple[Tensor, ...]:
    """Return the gradients of q, k, v and the gates; symbols in comments are those of the package's docstring."""
    groups, length, dim = q.shape
    wide, scale = total.dtype, dim ** -0.5
    grad_out = grad_out.contiguous()  # the gradients of the heads are often interleaved in memory
    key, query, before, floor, index = _chunk_gates(i_gate, log_f, chunk, wide)
    bound = torch.maximum(total.abs(), floor) + EPS
    along = (grad_out * out).sum(-1, dtype=wide)
    # h = N / bound: gradients of the numerator N, of the sum of A, of the stabilizer m
    grad_n = (grad_out / bound[..., None].to(grad_out.dtype)).view(-1, chunk, dim)
    grad_total = torch.where(total.abs() > floor, -along / bound * total.sign(), 0.0).view(-1, chunk)
    grad_m = (-EPS) * along / bound

    qc, kc, vc = (x.reshape(-1, chunk, dim) for x in (q, k, v))
    grad_q, grad_k, grad_v = _gradients_within(qc, kc, vc, key, query, grad_n, grad_total)
    if length > chunk:
        keep = before.exp()
        entered = key.exp().flatten(0, 1)[..., None].to(k.dtype)
        reached = (before[..., None] - query).exp_().mul_(scale).flatten(0, 1)[..., None].to(q.dtype)
        memory, normalizer = (x.to(q.dtype) for x in _memories(kc * entered, vc, keep))
        through = torch.bmm(grad_n, memory.transpose(1, 2))
        through += grad_total[..., None].to(q.dtype) * normalizer[:, None, :]
        grad_q += through * reached
        del memory, normalizer, through
        grad_memory, grad_normalizer = _memory_gradients(qc * reached, grad_n, grad_total, keep)
        grad_memory, grad_normalizer = grad_memory.to(q.dtype), grad_normalizer.to(q.dtype)
        grad_k += (torch.bmm(vc, grad_memory.transpose(1, 2)) + grad_normalizer[:, None, :]) * entered
        grad_v += torch.bmm(kc * entered, grad_memory)
    grad_q, grad_k, grad_v = (x.view(groups, length, dim) for x in (grad_q, grad_k, grad_v))
    # the exponent P_t + u_j - m_t multiplies q_t k_j, so its gradient summed over j is q_t dq_t, over t k_j dk_j
    rows = (q * grad_q).sum(-1, dtype=wide) + grad_m
    columns = (k * grad_k).sum(-1, dtype=wide).scatter_add_(1, index, grad_m)
    difference = (rows - columns).double()
    grad_log_f = difference.flip(-1).cumsum(-1).flip(-1)
    return grad_q, grad_k, grad_v, columns.to(i_gate.dtype), grad_log_f.to(log_f.dtype)


def _gradients_within(qc: Tensor, kc: Tensor, vc: Tensor, key: Tensor, query: Tensor, grad_n: Tensor,
                      grad_total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v (G * N, L, d) through the tokens of their own chunk."""
    wide, scale = grad_total.dtype, qc.shape[-1] ** -0.5
    grad_q = torch.empty_like(qc)
    grad_k: Tensor | None = None
    grad_v: Tensor | None = None
    for rows in reversed(_parts(qc.shape[1])):  # the last rows depend on all columns
        columns = slice(rows.stop)
        weights = _within(key, query, rows)
        grad_scores = torch.bmm(grad_n[:, rows], vc[:, columns].transpose(1, 2)).to(wide)
        grad_scores = grad_scores.add_(grad_total[:, rows, None]).mul_(weights).to(qc.dtype)
        weights.mul_(_scaled_bmm(qc[:, rows], kc[:, columns].transpose(1, 2), scale))
        grad_q[:, rows] = _scaled_bmm(grad_scores, kc[:, columns], scale)
        part_k = _scaled_bmm(grad_scores.transpose(1, 2), qc[:, rows], scale)
        part_v = torch.bmm(weights.to(vc.dtype).transpose(1, 2), grad_n[:, rows])
        if grad_k is None or grad_v is None:
            grad_k, grad_v = part_k, part_v
        else:
            grad_k[:, columns] += part_k
            grad_v[:, columns] += part_v
    assert grad_k is not None and grad_v is not None
    return grad_q, grad_k, grad_v


def _memory_gradients(q_reached: Tensor, grad_n: Tensor, grad_total: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of what each chunk adds to the memory, (G * N, d, d) and (G * N, d)."""
    groups, chunks = keep.shape
    shape, wide = (groups, chunks), keep.dtype
    direct = torch.bmm(q_reached.transpose(1, 2), grad_n).unflatten(0, shape)
    direct_n = torch.bmm(q_reached.transpose(1, 2), grad_total[..., None].to(q_reached.dtype)).squeeze(-1)
    direct_n = direct_n.unflatten(0, shape)
    memory = torch.zeros_like(direct, dtype=wide)
    normalizer = torch.zeros_like(direct_n, dtype=wide)
    for c in range(chunks - 2, -1, -1):
        torch.addcmul(direct[:, c + 1], memory[:, c + 1], keep[:, c + 1, None, None], out=memory[:, c])
        torch.addcmul(direct_n[:, c + 1], normalizer[:, c + 1], keep[:, c + 1, None], out=normalizer[:, c])
    return memory.flatten(0, 1), normalizer.flatten(0, 1)
