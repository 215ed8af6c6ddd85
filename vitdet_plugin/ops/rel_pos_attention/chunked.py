"""Attention with relative position bias in blocks of scores that fit the CPU's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Backend, Case
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.rel_pos_attention.reference import dense
from vitdet_plugin.utils.precision import no_autocast

# Scores computed at a time in the chunked form, in elements: 8 MiB of float32. Measured on two cores: smaller blocks
# leave the threads too little work, larger ones do not fit the cache.
CHUNK_ELEMENTS = 1 << 21


def chunked(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Compute block by block; only the inputs and the output are saved for the backward pass.

    Arguments as :func:`vitdet_plugin.ops.rel_pos_attention.rel_pos_attention`.
    """
    flat = [x.flatten(0, 1) for x in (q * scale, k, v, rel_h.to(q.dtype), rel_w.to(q.dtype))]
    if torch.compiler.is_compiling():  # the loop over blocks must not become a part of the graph
        flat = [x.contiguous() for x in flat]
    out: Tensor = _operator(*flat)
    return out.unflatten(0, q.shape[:2])


def _blocks(heads: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices (heads, queries) of about ``CHUNK_ELEMENTS`` scores: many small heads or a part of a large one."""
    rows = max(1, min(queries, CHUNK_ELEMENTS // keys))
    group = max(1, CHUNK_ELEMENTS // (rows * keys))
    for head in range(0, heads, group):
        for row in range(0, queries, rows):
            yield slice(head, head + group), slice(row, row + rows)


def _probabilities(q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Return softmax(q k^T + rel_h + rel_w) of one block, in float32 at least: (heads, rows, K)."""
    scores = torch.bmm(q, k.transpose(1, 2))
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    grid = scores.unflatten(-1, (rel_h.shape[-1], rel_w.shape[-1]))
    grid.add_(rel_h[..., :, None]).add_(rel_w[..., None, :])
    return torch.softmax(scores, -1, out=scores)


def _forward(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """q (scaled), k, v: (heads, Q or K, d); rel_h, rel_w: (heads, Q, H), (heads, Q, W) -> (heads, Q, d)."""
    out = torch.empty_like(q)
    with no_autocast(q.device.type):
        for heads, rows in _blocks(q.shape[0], q.shape[1], k.shape[1]):
            p = _probabilities(q[heads, rows], k[heads], rel_h[heads, rows], rel_w[heads, rows])
            out[heads, rows] = torch.bmm(p.to(v.dtype), v[heads])
    return out


def _backward(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor,
              out: Tensor) -> list[Tensor]:
    """Return the gradients of q, k, v, rel_h and rel_w."""
    grad_out = grad_out.contiguous()
    grad_q, grad_rel_h, grad_rel_w = torch.empty_like(q), torch.empty_like(rel_h), torch.empty_like(rel_w)
    # gradients of keys and values are summed over the blocks: in float32 even where the inputs are half precision
    wide = torch.promote_types(q.dtype, torch.float32)
    grad_k, grad_v = torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
    expected = (grad_out * out).sum(-1, keepdim=True, dtype=wide)  # sum over keys of p * dp
    for heads, rows in _blocks(q.shape[0], q.shape[1], k.shape[1]):
        p = _probabilities(q[heads, rows], k[heads], rel_h[heads, rows], rel_w[heads, rows])
        grad_o = grad_out[heads, rows]
        grad_v[heads] += torch.bmm(p.to(v.dtype).transpose(1, 2), grad_o)
        grad_s = torch.bmm(grad_o, v[heads].transpose(1, 2)).to(wide)
        grad_s.sub_(expected[heads, rows]).mul_(p)
        grid = grad_s.unflatten(-1, (rel_h.shape[-1], rel_w.shape[-1]))
        grad_rel_h[heads, rows] = grid.sum(-1).to(rel_h.dtype)
        grad_rel_w[heads, rows] = grid.sum(-2).to(rel_w.dtype)
        grad_s = grad_s.to(q.dtype)
        grad_q[heads, rows] = torch.bmm(grad_s, k[heads])
        grad_k[heads] += torch.bmm(grad_s.transpose(1, 2), q[heads, rows])
    return [grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), grad_rel_h, grad_rel_w]


def _formula(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    return dense(q, k, v, rel_h, rel_w, 1.0)


_INPUTS = 'Tensor q, Tensor k, Tensor v, Tensor rel_h, Tensor rel_w'
_operator = Differentiable(
    'rel_pos_attention_chunked', f'({_INPUTS}) -> Tensor', _forward, lambda q, *others: torch.empty_like(q),
    Registered('rel_pos_attention_chunked_backward', f'(Tensor grad_out, {_INPUTS}, Tensor out) -> Tensor[]', _backward,
               lambda grad_out, *saved: [torch.empty_like(x) for x in saved[:5]], compiled_only=True),
    reference=_formula, saved=(0,), cast=lambda *tensors: tensors, compiled_only=True)


def _why_not(case: Case) -> str | None:
    if case.transformed:
        return NOT_TRANSFORMED
    if case.named:
        return None
    if case.exporting:
        return 'cannot be exported to ONNX'
    return None if case.device == 'cpu' else 'optimized for the CPU only'


BACKEND = Backend('chunked', chunked, _why_not)
