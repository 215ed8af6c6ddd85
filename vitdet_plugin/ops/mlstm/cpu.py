"""Steps of the chunkwise form by compiled CPU kernels; see the functions of ``chunkwise.py`` that call them."""

from __future__ import annotations

import torch
from torch import Tensor

from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS


def can_serve(x: Tensor) -> bool:
    """Whether the kernels are compiled and ``x`` is on a CPU."""
    return STATUS['cpu'] is None and x.device.type == 'cpu'


def chunk_gates(i_gate: Tensor, log_f: Tensor, chunk: int) -> tuple[Tensor, ...]:
    """(G, S) each -> key, query (G, N, L), before (G, N), floor and index (G, S); all but index in float64."""
    gates: tuple[Tensor, ...] = torch.ops.vitdet_plugin.mlstm_gates(i_gate, log_f, chunk)
    return gates


def weigh(scores: Tensor, key: Tensor, query: Tensor, scale: float) -> Tensor:
    """Multiply scores (B, rows, columns) in place by ``scale`` and exp(key - query); zero for later tokens.

    The rows are the last ones of a chunk's first ``columns`` tokens.

    Args:
        scores: products of queries and keys, contiguous.
        key, query: (G, N, L) in float64 with B = G * N.
        scale: factor.

    Returns:
        The sums of the rows (B, rows), at least float32.
    """
    totals: Tensor = torch.ops.vitdet_plugin.mlstm_weigh(scores, key, query, scale)
    return totals


def weigh_backward(scores: Tensor, grads: Tensor, grad_total: Tensor, key: Tensor, query: Tensor,
                   scale: float) -> tuple[Tensor, Tensor]:
    """Replace scores by weights as :func:`weigh`, and the weights' gradients by those of the scores, in place.

    Args:
        scores: products of queries and keys (B, rows, columns), contiguous.
        grads: gradients of the weights apart from those of their sums, as ``scores``.
        grad_total: gradients of the sums (B, rows).
        key, query, scale: as for :func:`weigh`.

    Returns:
        The gradients of the exponents, summed over columns (B, rows) and over rows (B, columns), in float64.
    """
    sums: tuple[Tensor, Tensor] = torch.ops.vitdet_plugin.mlstm_weigh_backward(scores, grads, grad_total, key, query,
                                                                               scale)
    return sums


def memories(added: Tensor, keep: Tensor, *, reverse: bool, wide: bool) -> Tensor:
    """Return the state before each chunk, or after it if ``reverse``, from what each chunk adds to it.

    Args:
        added: (G, N, size).
        keep: factor of the state that passes a chunk (G, N), at least float32.
        reverse: whether the state passes from the last chunk to the first.
        wide: whether to return the dtype of ``keep`` instead of that of ``added``.
    """
    states: Tensor = torch.ops.vitdet_plugin.mlstm_memories(added, keep, reverse, wide)
    return states


def _register() -> None:
    """Register shapes for tracing."""
    def like_gates(i_gate: Tensor, log_f: Tensor, chunk: int) -> tuple[Tensor, ...]:
        groups, length = i_gate.shape
        chunks = groups, length // chunk
        key, query = (i_gate.new_empty(*chunks, chunk, dtype=torch.float64) for _ in range(2))
        floor = i_gate.new_empty(groups, length, dtype=torch.float64)
        return (key, query, i_gate.new_empty(chunks, dtype=torch.float64), floor,
                i_gate.new_empty(groups, length, dtype=torch.int64))

    def like_totals(scores: Tensor, key: Tensor, query: Tensor, scale: float) -> Tensor:
        return scores.new_empty(scores.shape[:2], dtype=torch.promote_types(scores.dtype, torch.float32))

    def like_sums(scores: Tensor, grads: Tensor, grad_total: Tensor, key: Tensor, query: Tensor,
                  scale: float) -> tuple[Tensor, Tensor]:
        batch, rows, columns = scores.shape
        return key.new_empty(batch, rows), key.new_empty(batch, columns)

    def like_added(added: Tensor, keep: Tensor, reverse: bool, wide: bool) -> Tensor:
        return torch.empty_like(added, dtype=keep.dtype if wide else added.dtype)

    for name, like in (('gates', like_gates), ('weigh', like_totals), ('weigh_backward', like_sums),
                       ('memories', like_added)):
        torch.library.register_fake(f'{NAMESPACE}::mlstm_{name}', like)


if STATUS['cpu'] is None:
    _register()
