"""The mLSTM cell (xLSTM, arXiv 2405.04517, section 2.3) in interchangeable exact forms.

With F = log sigmoid(f~), P_t = F_1 + ... + F_t and u_j = i~_j - P_j, token j weighs exp(P_t + u_j) in the memory of
token t >= j. All forms compute, stabilised by m_t = P_t + max_{j<=t} u_j,

    A_tj = q_t k_j / sqrt(d) * exp(P_t + u_j - m_t)  (j <= t)
    h_t = sum_j A_tj v_j / (max(|sum_j A_tj|, exp(-m_t)) + 1e-6)

and its gradients; they differ in time and memory. Shapes: (..., S, d) for q, k, v and (..., S) for the gates.

==========  =======================================================================================================
recurrent   one token after the other, with a d x d memory. The oracle.
parallel    the formula as it stands; keeps several S x S tensors a head. Fits ONNX.
chunkwise   chunks of L tokens with the memory between them: time and memory linear in S. Recomputed in the backward
            pass, which needs its inputs and its output only.
==========  =======================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitdet_plugin.errors import UserError

EPS = 1e-6
_NEVER = -1e30  # an input gate that lets nothing in; finite, so that differences of two stay numbers
_LARGEST = 80.0  # of an exponent, short of float32's overflow: there h is 0, and gradients stay numbers
_FEW = 64  # tokens up to which the formula as it stands is faster
_PART = 64  # least rows of a chunk that are worth products of their own


def mlstm(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, f_gate: Tensor, *, valid: Tensor | None = None,
          form: str = 'auto', chunk: int | None = None) -> Tensor:
    """One pass over the tokens, in their order.

    Args:
        q, k, v: (..., S, d).
        i_gate, f_gate: (..., S), before exp and sigmoid; taken to float32 at least.
        valid: (..., S) bool, broadcastable; other tokens neither enter the memory nor decay it (i~ = -inf, F = 0).
        form: a key of ``FORMS`` or 'auto': chunkwise, but parallel for up to 64 tokens and while exporting.
        chunk: tokens a chunk of the chunkwise form; by default chosen from d, S and the device.

    Returns:
        (..., S, d) in the type of q; what it holds at tokens that are not valid has no meaning.
    """
    wide = torch.promote_types(i_gate.dtype, torch.float32)
    i_gate, log_f = i_gate.to(wide), F.logsigmoid(f_gate.to(wide))
    if valid is not None:
        i_gate, log_f = i_gate.masked_fill(~valid, _NEVER), log_f.masked_fill(~valid, 0.0)
    if form == 'auto':
        exporting = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
        form = 'parallel' if exporting or q.shape[-2] <= _FEW else 'chunkwise'
    check_form(form)
    if form == 'chunkwise':
        return chunkwise(q, k, v, i_gate, log_f, chunk)
    return FORMS[form](q, k, v, i_gate, log_f)


def check_form(form: str) -> None:
    """Raises UserError for a form that there is not."""
    if form != 'auto' and form not in FORMS:
        raise UserError(f'mLSTM form {form!r} is unknown; choose auto or one of {", ".join(FORMS)}')


def _floor(m: Tensor) -> Tensor:
    """exp(-m), the least that the sum of A counts for."""
    return (-m).clamp(max=_LARGEST).exp()


def recurrent(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor) -> Tensor:
    """Token by token: memory C (..., d, d) and normaliser n (..., d), both in float32 at least."""
    dtype, wide = q.dtype, torch.promote_types(q.dtype, i_gate.dtype)
    q, k, v, i_gate, log_f = (x.to(wide) for x in (q * q.shape[-1] ** -0.5, k, v, i_gate, log_f))
    memory, normaliser = k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1]), torch.zeros_like(k[..., 0, :])
    m, outs = torch.full_like(i_gate[..., 0], -torch.inf), []
    for t in range(q.shape[-2]):
        m_next = torch.maximum(log_f[..., t] + m, i_gate[..., t])
        forget = (log_f[..., t] + m - m_next).exp()[..., None]
        enter = (i_gate[..., t] - m_next).exp()[..., None]
        memory = forget[..., None] * memory + (enter * k[..., t, :])[..., :, None] * v[..., t, None, :]
        normaliser = forget * normaliser + enter * k[..., t, :]
        total = (normaliser * q[..., t, :]).sum(-1)
        bound = torch.maximum(total.abs(), _floor(m_next)) + EPS
        outs.append((q[..., t, None, :] @ memory).squeeze(-2) / bound[..., None])
        m = m_next
    return torch.stack(outs, -2).to(dtype)


def parallel(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor) -> Tensor:
    """The formula as it stands; holds (..., S, S)."""
    wide, length = torch.promote_types(q.dtype, i_gate.dtype), q.shape[-2]
    log_f, i_gate = log_f.to(wide), i_gate.to(wide)
    decay = log_f.cumsum(-1)
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    log_weights = (decay[..., :, None] - decay[..., None, :] + i_gate[..., None, :]).masked_fill(future, -torch.inf)
    m = log_weights.amax(-1, keepdim=True)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) * (log_weights - m).exp()
    bound = torch.maximum(weights.sum(-1, keepdim=True).abs(), _floor(m)) + EPS
    return (weights / bound).to(q.dtype) @ v


def chunkwise(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int | None = None) -> Tensor:
    """Chunks of ``chunk`` tokens; no tensor of S x S, time and memory linear in S."""
    length, dim = q.shape[-2:]
    chunk = chunk or chunk_length(length, dim, q.device.type)
    flat = [x.reshape(-1, length, dim) for x in (q, k.to(q.dtype), v.to(q.dtype))]
    gates = [x.reshape(-1, length) for x in (i_gate, log_f)]
    if missing := -length % chunk:  # behind the others: seen by nobody
        flat = [F.pad(x, (0, 0, 0, missing)) for x in flat]
        gates = [F.pad(gates[0], (0, missing), value=_NEVER), F.pad(gates[1], (0, missing))]
    out = _Chunkwise.apply(*flat, *gates, chunk)
    return (out[:, :length] if missing else out).reshape(q.shape)


def chunk_length(length: int, dim: int, device: str = 'cpu') -> int:
    """Tokens a chunk: L costs S * (L + dim) * dim * 2 products a head, and S / L memories of dim x dim.

    Else about the head dimension, so that all memories together take no more room than the tokens; a length that
    divides S is preferred, as it needs no padding. A sequence of hardly more than two such chunks is one.
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
    """Everything that the gates say, from sums in float64: they run over the whole sequence.

    Returns:
        key (G, N, L): u_j - top, query (G, N, L): max_{j<=t} u_j - top, before (G, N): the maximum before the chunk -
        top, where top is the maximum at the chunk's end; all at most 0. floor (G, S): exp(-m_t). index (G, S): the j
        where u is largest so far.
    """
    decay = log_f.double().cumsum(-1)
    u = i_gate.double() - decay
    highest, index = u.cummax(-1)
    floor = _floor(decay + highest).to(dtype)
    u, highest = u.unflatten(-1, (-1, chunk)), highest.unflatten(-1, (-1, chunk))
    top = highest[..., -1:]
    before = torch.cat([highest[:, :1, :1], top[:, :-1]], 1)  # none before the first chunk: any finite value
    return (u - top).to(dtype), (highest - top).to(dtype), (before - top).squeeze(-1).to(dtype), floor, index


def _parts(chunk: int) -> list[slice]:
    """The rows of a chunk by parts: those of a part need no column behind it, which saves products with zeros."""
    count = max(1, chunk // _PART)
    ends = [chunk * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(ends, ends[1:])]


def _within(key: Tensor, query: Tensor, rows: slice) -> Tensor:
    """exp(u_j - max_{j<=t} u_j), (G * N, rows, rows.stop), zero for j > t."""
    exponents = key.flatten(0, 1)[:, None, :rows.stop] - query.flatten(0, 1)[:, rows, None]
    return exponents.clamp_(max=0).exp_().tril_(rows.start)


def _memories(k_weighted: Tensor, v: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """State before each chunk: C (G * N, d, d) and n (G * N, d), zero before the first."""
    groups, chunks = keep.shape
    shape = (groups, chunks)
    wide = keep.dtype
    memory = k_weighted.new_zeros(*shape, k_weighted.shape[-1], v.shape[-1], dtype=wide)
    normaliser = k_weighted.new_zeros(*shape, k_weighted.shape[-1], dtype=wide)
    entering = torch.bmm(k_weighted.transpose(1, 2), v).unflatten(0, shape)
    sums = k_weighted.sum(1, dtype=wide).unflatten(0, shape)
    for c in range(1, chunks):
        torch.addcmul(entering[:, c - 1], memory[:, c - 1], keep[:, c - 1, None, None], out=memory[:, c])
        torch.addcmul(sums[:, c - 1], normaliser[:, c - 1], keep[:, c - 1, None], out=normaliser[:, c])
    return memory.flatten(0, 1), normaliser.flatten(0, 1)


class _Chunkwise(torch.autograd.Function):
    """q, k, v: (G, S, d); i_gate, log_f: (G, S); S a multiple of ``chunk`` -> (G, S, d)."""

    @staticmethod
    def forward(ctx, q, k, v, i_gate, log_f, chunk):
        groups, length, dim = q.shape
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
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
                memory, normaliser = _memories(kc * entered, vc, before.exp())
                reached = (before[..., None] - query).exp_().mul_(dim ** -0.5).flatten(0, 1)[..., None]
                q_reached = qc * reached.to(q.dtype)
                total += torch.bmm(q_reached, normaliser.to(q.dtype)[..., None]).squeeze(-1)
                out.baddbmm_(q_reached, memory.to(q.dtype))
            total = total.view(groups, length)
            out = out.view(groups, length, dim)
            out.div_((torch.maximum(total.abs(), floor) + EPS)[..., None])
        ctx.save_for_backward(q, k, v, i_gate, log_f, out, total)
        ctx.chunk = chunk
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        q, k, v, i_gate, log_f, out, total = ctx.saved_tensors
        with torch.autocast(q.device.type, enabled=False):
            return *_backward(q, k, v, i_gate, log_f, out, total, grad_out, ctx.chunk), None


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    empty = a.new_empty(())
    return torch.baddbmm(empty, a, b, beta=0, alpha=scale)


def _backward(q, k, v, i_gate, log_f, out, total, grad_out, chunk):
    """Gradients of q, k, v and the gates; the comments name equations of the module's docstring."""
    groups, length, dim = q.shape
    wide, scale = total.dtype, dim ** -0.5
    grad_out = grad_out.contiguous()  # the heads' gradients come interleaved
    key, query, before, floor, index = _chunk_gates(i_gate, log_f, chunk, wide)
    bound = torch.maximum(total.abs(), floor) + EPS
    along = (grad_out * out).sum(-1, dtype=wide)
    # h = N / bound: gradients of the numerator N, of the sum of A, of the stabiliser m
    grad_n = (grad_out / bound[..., None].to(grad_out.dtype)).view(-1, chunk, dim)
    grad_total = torch.where(total.abs() > floor, -along / bound * total.sign(), 0.0).view(-1, chunk)
    grad_m = (-EPS) * along / bound

    qc, kc, vc = (x.reshape(-1, chunk, dim) for x in (q, k, v))
    grad_q, grad_k, grad_v = _gradients_within(qc, kc, vc, key, query, grad_n, grad_total)
    if length > chunk:
        keep = before.exp()
        entered = key.exp().flatten(0, 1)[..., None].to(k.dtype)
        reached = (before[..., None] - query).exp_().mul_(scale).flatten(0, 1)[..., None].to(q.dtype)
        memory, normaliser = (x.to(q.dtype) for x in _memories(kc * entered, vc, keep))
        through = torch.bmm(grad_n, memory.transpose(1, 2))
        through += grad_total[..., None].to(q.dtype) * normaliser[:, None, :]
        grad_q += through * reached
        del memory, normaliser, through
        grad_memory, grad_normaliser = _memory_gradients(qc * reached, grad_n, grad_total, keep)
        grad_memory, grad_normaliser = grad_memory.to(q.dtype), grad_normaliser.to(q.dtype)
        grad_k += (torch.bmm(vc, grad_memory.transpose(1, 2)) + grad_normaliser[:, None, :]) * entered
        grad_v += torch.bmm(kc * entered, grad_memory)
    grad_q, grad_k, grad_v = (x.view(groups, length, dim) for x in (grad_q, grad_k, grad_v))
    # the exponent P_t + u_j - m_t multiplies q_t k_j, so its gradient summed over j is q_t dq_t, over t k_j dk_j
    rows = (q * grad_q).sum(-1, dtype=wide) + grad_m
    columns = (k * grad_k).sum(-1, dtype=wide).scatter_add_(1, index, grad_m)
    difference = (rows - columns).double()
    grad_log_f = difference.flip(-1).cumsum(-1).flip(-1)
    return grad_q, grad_k, grad_v, columns.to(i_gate.dtype), grad_log_f.to(log_f.dtype)


def _gradients_within(qc, kc, vc, key, query, grad_n, grad_total):
    """Gradients of q, k, v (G * N, L, d) through the tokens of their own chunk."""
    wide, scale = grad_total.dtype, qc.shape[-1] ** -0.5
    grad_q, grad_k, grad_v = torch.empty_like(qc), None, None
    for rows in reversed(_parts(qc.shape[1])):  # the last rows see all columns
        seen = slice(rows.stop)
        weights = _within(key, query, rows)
        grad_scores = torch.bmm(grad_n[:, rows], vc[:, seen].transpose(1, 2)).to(wide)
        grad_scores = grad_scores.add_(grad_total[:, rows, None]).mul_(weights).to(qc.dtype)
        weights.mul_(_scaled_bmm(qc[:, rows], kc[:, seen].transpose(1, 2), scale))
        grad_q[:, rows] = _scaled_bmm(grad_scores, kc[:, seen], scale)
        part_k = _scaled_bmm(grad_scores.transpose(1, 2), qc[:, rows], scale)
        part_v = torch.bmm(weights.to(vc.dtype).transpose(1, 2), grad_n[:, rows])
        if grad_k is None:
            grad_k, grad_v = part_k, part_v
        else:
            grad_k[:, seen] += part_k
            grad_v[:, seen] += part_v
    return grad_q, grad_k, grad_v


def _memory_gradients(q_reached: Tensor, grad_n: Tensor, grad_total: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of what each chunk adds to the memory: from all later chunks; (G * N, d, d) and (G * N, d)."""
    groups, chunks = keep.shape
    shape, wide = (groups, chunks), keep.dtype
    direct = torch.bmm(q_reached.transpose(1, 2), grad_n).unflatten(0, shape)
    direct_n = torch.bmm(q_reached.transpose(1, 2), grad_total[..., None].to(q_reached.dtype)).squeeze(-1)
    direct_n = direct_n.unflatten(0, shape)
    memory = torch.zeros_like(direct, dtype=wide)
    normaliser = torch.zeros_like(direct_n, dtype=wide)
    for c in range(chunks - 2, -1, -1):
        torch.addcmul(direct[:, c + 1], memory[:, c + 1], keep[:, c + 1, None, None], out=memory[:, c])
        torch.addcmul(direct_n[:, c + 1], normaliser[:, c + 1], keep[:, c + 1, None], out=normaliser[:, c])
    return memory.flatten(0, 1), normaliser.flatten(0, 1)


FORMS: dict[str, Callable[..., Tensor]] = {'recurrent': recurrent, 'parallel': parallel, 'chunkwise': chunkwise}
