"""The mLSTM cell in chunks of tokens, in time and memory linear in the tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.mlstm import cpu
from vitdet_plugin.ops.mlstm.reference import CLOSED_GATE, EPS, lower_bound
from vitdet_plugin.utils.precision import no_autocast

SHORT = 64  #: tokens up to which the parallel form is faster
_PART = 96  # minimum number of rows of a chunk for which separate products are worthwhile
_SUMMED = 1 << 17  # elements converted to float64 at once on a CPU; they fit into its cache


def pad(tensors: Sequence[Tensor], missing: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Append tokens on which no other depends to q, k, v, i_gate and log_f; shapes as those of :func:`forward`."""
    q, k, v, i_gate, log_f = tensors
    if not missing:
        return q, k, v, i_gate, log_f
    q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
    return q, k, v, F.pad(i_gate, (0, missing), value=CLOSED_GATE), F.pad(log_f, (0, missing))


def chunk_length(length: int, dim: int) -> int:
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


def chunk_gates(i_gate: Tensor, log_f: Tensor, chunk: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Compute all that depends on the gates alone, in float64, as the sums run over the whole sequence.

    Returns:
        key (G, N, L): u_j - top, query (G, N, L): max_{j<=t} u_j - top, before (G, N): the maximum before the chunk -
        top, where top is the maximum at the chunk's end; all at most 0 and in float64. floor (G, S): exp(-m_t) in
        ``dtype``. index (G, S): the j where u is largest so far.
    """
    decay = log_f.double().cumsum(-1)
    u = i_gate.double() - decay
    highest, index = u.cummax(-1)
    floor = lower_bound(decay + highest).to(dtype)
    u, highest = u.unflatten(-1, (-1, chunk)), highest.unflatten(-1, (-1, chunk))
    top = highest[..., -1:]
    before = torch.cat([highest[:, :1, :1], top[:, :-1]], 1)  # none before the first chunk: any finite value
    return u - top, highest - top, (before - top).squeeze(-1), floor, index


def _gates(i_gate: Tensor, log_f: Tensor, chunk: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Compute :func:`chunk_gates`, by the compiled kernel where it can serve."""
    if not cpu.can_serve(i_gate):
        return chunk_gates(i_gate, log_f, chunk, dtype)
    key, query, before, floor, index = cpu.chunk_gates(i_gate, log_f, chunk)
    return key, query, before, floor.to(dtype), index


def _parts(chunk: int) -> list[slice]:
    """Split the rows of a chunk; the rows of a part need no columns after it, which saves products with zeros."""
    count = max(1, chunk // _PART)
    ends = [chunk * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(ends, ends[1:])]


def split_in_two(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return ``x`` (G, N, L) rounded to ``dtype`` and the rest, each (G * N, L)."""
    rounded = x.flatten(0, 1).to(dtype)
    return rounded, (x.flatten(0, 1) - rounded).to(dtype)


def _within(key: Tensor, query: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
    """Return exp(u_j - max_{j<=t} u_j), (G * N, rows, rows.stop), zero for j > t; key and query (G, N, L).

    The larger a term, the coarser its rounding, which would remain in the difference of two nearly equal ones.
    """
    keys, queries = split_in_two(key[..., :rows.stop], dtype), split_in_two(query[..., rows], dtype)
    exponents = keys[0][:, None, :] - queries[0][:, :, None]
    if exponents.dtype != torch.float64:
        exponents.add_(keys[1][:, None, :]).sub_(queries[1][:, :, None])
    return exponents.clamp_(max=0).exp_().tril_(rows.start)


def _weigh(scores: Tensor, key: Tensor, query: Tensor, rows: slice, scale: float) -> tuple[Tensor, Tensor]:
    """Return A_tj of some rows of all chunks, in the memory of ``scores``, and the sums over j."""
    if cpu.can_serve(scores):
        return scores, cpu.weigh(scores, key, query, scale)
    weights = _within(key, query, rows, torch.promote_types(scores.dtype, torch.float32)).mul_(scores).mul_(scale)
    return weights.to(scores.dtype), weights.sum(-1)


def _weigh_backward(scores: Tensor, grads: Tensor, grad_total: Tensor, key: Tensor, query: Tensor, rows: slice,
                    scale: float) -> tuple[Tensor, ...]:
    """Return A_tj and the gradients of the scores, in the memory of the arguments, and sums in float64.

    Args:
        scores: products of queries and keys.
        grads: products of the numerator's gradient and the values.
        grad_total: gradient of the sum of A, (G * N, rows).
        key, query: see :func:`chunk_gates`.
        rows: the rows among those of a chunk.
        scale: factor of the scores.

    Returns:
        Weights and gradients (G * N, rows, rows.stop), and the gradients of the exponents summed over j and over t.
    """
    if cpu.can_serve(scores):
        return scores, grads, *cpu.weigh_backward(scores, grads, grad_total, key, query, scale)
    decays = _within(key, query, rows, grad_total.dtype)
    wide_grads = grads.to(grad_total.dtype).add_(grad_total[..., None]).mul_(decays)
    wide_scores = scores.to(grad_total.dtype).mul_(scale)
    sums = _exact_sums(wide_scores * wide_grads)
    return wide_scores.mul_(decays).to(scores.dtype), wide_grads.mul_(scale).to(grads.dtype), *sums


def _states(added: Tensor, keep: Tensor, *, reverse: bool = False, wide: bool = False) -> Tensor:
    """Return the state before each chunk, or after it if ``reverse``; zero where there is none.

    Args:
        added: what each chunk adds, (G, N, ...).
        keep: factor of a state that passes a chunk, (G, N).
        reverse: whether the state passes from the last chunk to the first.
        wide: whether to return the dtype of ``keep`` instead of that of ``added``.
    """
    flat = added.flatten(2)
    if cpu.can_serve(added):
        return cpu.memories(flat, keep, reverse=reverse, wide=wide).view(added.shape)
    states, chunks = torch.zeros_like(flat, dtype=keep.dtype), range(keep.shape[1])
    order = list(reversed(chunks)) if reverse else list(chunks)
    for last, c in zip(order, order[1:]):
        torch.addcmul(flat[:, last], states[:, last], keep[:, last, None], out=states[:, c])
    return (states if wide else states.to(added.dtype)).view(added.shape)


def _sum_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum ``x`` (G, N, d) over N; as a product where a sum would first convert all elements."""
    if x.dtype == dtype or x.device.type != 'cpu':
        return x.sum(1, dtype=dtype)
    return torch.bmm(x.transpose(1, 2), x.new_ones(1, x.shape[1], 1).expand(len(x), -1, -1)).squeeze(-1).to(dtype)


def _memories(k_weighted: Tensor, v: Tensor, keep: Tensor, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Return the state before each chunk: C (G * N, d, d) in the dtype of v unless ``wide``, and n (G * N, d)."""
    entering = torch.bmm(k_weighted.transpose(1, 2), v).unflatten(0, keep.shape)
    sums = _sum_rows(k_weighted, keep.dtype).unflatten(0, keep.shape)
    return _states(entering, keep, wide=wide).flatten(0, 1), _states(sums, keep).flatten(0, 1)


def forward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """q, k, v: (G, S, d); i_gate, log_f: (G, S); S a multiple of ``chunk`` -> h (G, S, d) and sum_j A_tj (G, S)."""
    groups, length, dim = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    with no_autocast(q.device.type):
        key, query, before, floor, _ = _gates(i_gate, log_f, chunk, wide)
        qc, kc, vc = (x.reshape(-1, chunk, dim) for x in (q, k, v))
        totals, outs = [], []
        for rows in _parts(chunk):
            scores = torch.bmm(qc[:, rows], kc[:, :rows.stop].transpose(1, 2))
            weights, sums = _weigh(scores, key, query, rows, dim ** -0.5)
            totals.append(sums)
            outs.append(torch.bmm(weights, vc[:, :rows.stop]))
            del scores, weights
        total, out = (x[0] if len(x) == 1 else torch.cat(x, 1) for x in (totals, outs))
        del outs
        if length > chunk:
            entered = key.exp().flatten(0, 1)[..., None].to(k.dtype)
            memory, normalizer = _memories(kc * entered, vc, before.exp().to(wide))
            reached = (before[..., None] - query).exp_().mul_(dim ** -0.5).flatten(0, 1)[..., None]
            q_reached = qc * reached.to(q.dtype)
            total += torch.bmm(q_reached, normalizer.to(q.dtype)[..., None]).squeeze(-1)
            out.baddbmm_(q_reached, memory)
        total = total.view(groups, length)
        out = out.view(groups, length, dim)
        bound = (torch.maximum(total.abs(), floor) + EPS)[..., None]
        out.div_(bound.to(out.dtype) if out.dtype == torch.bfloat16 else bound)  # float16 has a smaller range
    return out, total


def backward(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, log_f: Tensor, out: Tensor, total: Tensor,
             grad_out: Tensor, chunk: int) -> tuple[Tensor, ...]:
    """Return the gradients of q, k, v and the gates; symbols in comments are those of the package's docstring.

    With E_tj the gradient of the exponent of A_tj, i~_j has the gradient sum_t E_tj, and log f_s the sum of E_tj over
    j < s <= t. The sums over all rows and columns from s on have this difference, but with open gates or long
    sequences nearly all of it cancels. Here only the pairs within a chunk are summed so, in float64; the other pairs
    have (t, j) = (own chunk, before), (after, own chunk) and (after, before), and are added without a difference:
    through q_t dq_t, k_j dk_j, and the product of the memory with its gradient.
    """
    groups, length, dim = q.shape
    wide, scale = total.dtype, dim ** -0.5
    grad_out = grad_out.contiguous()  # the gradients of the heads are often interleaved in memory
    key, query, before, floor, index = _gates(i_gate, log_f, chunk, wide)
    bound = torch.maximum(total.abs(), floor) + EPS
    along = (grad_out * out).sum(-1, dtype=wide)
    # h = N / bound: gradients of the numerator N, of the sum of A, of the stabilizer m
    grad_n = (grad_out / bound[..., None].to(grad_out.dtype)).view(-1, chunk, dim)
    grad_total = torch.where(total.abs() > floor, -along / bound * total.sign(), 0.0).view(-1, chunk)
    grad_m = (-EPS) * along / bound

    qc, kc, vc = (x.reshape(-1, chunk, dim) for x in (q, k, v))
    grad_q, grad_k, grad_v, rows, columns = _gradients_within(qc, kc, vc, key, query, grad_n, grad_total)
    grad_log_f = suffix_sums(rows - columns)
    if length > chunk:
        keep = before.exp().to(wide)
        entered = key.exp().flatten(0, 1)[..., None].to(k.dtype)
        reached = (before[..., None] - query).exp_().mul_(scale).flatten(0, 1)[..., None].to(q.dtype)
        memory, normalizer = _memories(kc * entered, vc, keep, wide=True)
        part_q = torch.bmm(grad_n, memory.to(q.dtype).transpose(1, 2))
        part_q.add_(grad_total[..., None].to(q.dtype) * normalizer.to(q.dtype)[:, None, :]).mul_(reached)
        grad_q += part_q
        grad_log_f += suffix_sums((qc * part_q).sum(-1, dtype=wide).double())
        del part_q
        grad_memory, grad_normalizer = _memory_gradients(qc * reached, grad_n, grad_total, keep)
        passing = memory.mul_(grad_memory).sum((1, 2)) + normalizer.mul_(grad_normalizer).sum(1)
        grad_log_f += (passing * keep.flatten())[:, None]
        del memory, normalizer
        grad_memory, grad_normalizer = grad_memory.to(q.dtype), grad_normalizer.to(q.dtype)
        part_k = torch.bmm(vc, grad_memory.transpose(1, 2)).add_(grad_normalizer[:, None, :]).mul_(entered)
        grad_k += part_k
        grad_v += torch.bmm(kc * entered, grad_memory)
        part = (kc * part_k).sum(-1, dtype=wide).double()
        columns += part
        grad_log_f[:, 1:] += part.cumsum(-1)[:, :-1]
    grad_q, grad_k, grad_v = (x.view(groups, length, dim) for x in (grad_q, grad_k, grad_v))
    grad_m = grad_m.double()
    grad_largest = torch.zeros_like(grad_m).scatter_add_(1, index, grad_m)
    grad_i = columns.view(groups, length) + grad_largest
    grad_log_f = grad_log_f.view(groups, length) + suffix_sums(grad_m - grad_largest)
    return grad_q, grad_k, grad_v, grad_i.to(i_gate.dtype), grad_log_f.to(log_f.dtype)


def suffix_sums(x: Tensor) -> Tensor:
    """Return the sum of each element and all after it in the last dimension."""
    return x.flip(-1).cumsum(-1).flip(-1)


def _exact_sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of ``x`` (N, rows, columns) over columns and over rows, in float64."""
    if x.is_cuda or torch.compiler.is_compiling():  # converts while summing
        return x.sum(-1, dtype=torch.float64), x.sum(1, dtype=torch.float64)
    some = x.split(max(1, _SUMMED // (x.shape[1] * x.shape[2])))
    sums = [(wide.sum(-1), wide.sum(1)) for wide in map(Tensor.double, some)]
    over_columns, over_rows = zip(*sums, strict=True)
    return torch.cat(over_columns), torch.cat(over_rows)


def _gradients_within(qc: Tensor, kc: Tensor, vc: Tensor, key: Tensor, query: Tensor, grad_n: Tensor,
                      grad_total: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients through the tokens of their own chunk.

    Returns:
        Those of q, k, v (G * N, L, d), and the sums over j and over t of the gradient of the exponent of A_tj, (G * N,
        L). The sums are in float64, because most of them cancels in their difference.
    """
    scale = qc.shape[-1] ** -0.5
    found: tuple[Tensor, ...] | None = None
    for rows in reversed(_parts(qc.shape[1])):  # the last rows depend on all columns
        columns = slice(rows.stop)
        scores = torch.bmm(qc[:, rows], kc[:, columns].transpose(1, 2))
        grads = torch.bmm(grad_n[:, rows], vc[:, columns].transpose(1, 2))
        weights, grads, over_columns, over_rows = _weigh_backward(scores, grads, grad_total[:, rows], key, query, rows,
                                                                  scale)
        of_rows = torch.bmm(grads, kc[:, columns]), over_columns
        of_columns = (torch.bmm(grads.transpose(1, 2), qc[:, rows]),
                      torch.bmm(weights.transpose(1, 2), grad_n[:, rows]), over_rows)
        del scores, weights, grads
        if found is None:
            if rows.start == 0:
                return of_rows[0], *of_columns[:2], of_rows[1], of_columns[2]
            found = torch.empty_like(qc), *of_columns[:2], torch.empty_like(over_rows), over_rows
        else:
            for whole, part in zip((*found[1:3], found[4]), of_columns):
                whole[:, columns] += part
        found[0][:, rows], found[3][:, rows] = of_rows
    assert found is not None
    return found


def _memory_gradients(q_reached: Tensor, grad_n: Tensor, grad_total: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of what each chunk adds to the memory, (G * N, d, d) and (G * N, d), in float32 at least."""
    direct = torch.bmm(q_reached.transpose(1, 2), grad_n).unflatten(0, keep.shape)
    direct_n = torch.bmm(q_reached.transpose(1, 2), grad_total[..., None].to(q_reached.dtype)).squeeze(-1)
    memory, normalizer = (_states(x, keep, reverse=True, wide=True)
                          for x in (direct, direct_n.unflatten(0, keep.shape)))
    return memory.flatten(0, 1), normalizer.flatten(0, 1)
