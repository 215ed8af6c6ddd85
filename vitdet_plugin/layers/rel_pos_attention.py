"""Softmax attention with decomposed relative position bias, in interchangeable exact forms.

All forms compute ``softmax(scale * q k^T + rel_h + rel_w) v`` and its gradients; they differ in time and memory.
In the shapes below G = batch (and windows), N = heads, Q = queries, K = H * W keys, d = head dim.

==========  ============================================================================================
dense       the formula as it stands; keeps a Q x K tensor a head. The oracle, and what exports to ONNX.
folded      bias folded into longer queries and keys, one call of PyTorch's fused attention (GPU).
chunked     blocks of scores that fit the CPU's cache, recomputed in the backward pass (CPU).
flex        ``flex_attention`` with the bias as score modifier (GPU, compiled there).
==========  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores in flight in the chunked form, in elements: 8 MiB of float32. Measured on two cores: smaller blocks leave the
# threads too little work, larger ones leave the cache.
CHUNK_ELEMENTS = 1 << 21


def rel_pos_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float,
                      form: str = 'auto') -> Tensor:
    """Attention with the bias ``rel_h[i, y] + rel_w[i, x]`` for query i and key (y, x).

    Args:
        q: (G, N, Q, d). k, v: (G, N, H * W, d).
        rel_h: (G, N, Q, H). rel_w: (G, N, Q, W).
        scale: factor of the scores ``q k^T``; the bias is not scaled.
        form: a key of ``FORMS`` or 'auto': chunked on the CPU, folded elsewhere, dense while exporting.

    Returns:
        (G, N, Q, d).
    """
    if form == 'auto':
        form = _automatic_form(q)
    return FORMS[form](q, k, v, rel_h, rel_w, scale)


def _automatic_form(q: Tensor) -> str:
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
        return 'dense'
    return 'chunked' if q.device.type == 'cpu' else 'folded'


def dense(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """The formula as it stands; holds (G, N, Q, K)."""
    scores = (q * scale) @ k.transpose(-2, -1)
    scores = scores + (rel_h[..., :, None] + rel_w[..., None, :]).flatten(-2)
    return scores.softmax(-1).to(v.dtype) @ v


def folded(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """``[q * scale, rel_h, rel_w] . [k, onehot_y, onehot_x]`` is the biased score: fused attention needs no mask.

    Values are padded with zeros to the longer head size, which the fused kernels want equal on all sides.
    """
    height, width, dim = rel_h.shape[-1], rel_w.shape[-1], q.shape[-1]
    places = torch.cat([
        torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0),
        torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1),
    ], 1)
    long_q = torch.cat([q * scale, rel_h.to(q.dtype), rel_w.to(q.dtype)], -1)
    long_k = torch.cat([k, places.expand(*k.shape[:2], -1, -1)], -1)
    out = F.scaled_dot_product_attention(long_q, long_k, F.pad(v, (0, height + width)), scale=1.0)
    return out[..., :dim]


def chunked(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Block by block in the cache; saves only its inputs and its output for the backward pass."""
    flat = [x.flatten(0, 1) for x in (q * scale, k, v, rel_h.to(q.dtype), rel_w.to(q.dtype))]
    return _Chunked.apply(*flat).unflatten(0, q.shape[:2])


def _blocks(heads: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Slices (heads, queries) of about ``CHUNK_ELEMENTS`` scores: many small heads or a part of a large one."""
    rows = max(1, min(queries, CHUNK_ELEMENTS // keys))
    group = max(1, CHUNK_ELEMENTS // (rows * keys))
    for head in range(0, heads, group):
        for row in range(0, queries, rows):
            yield slice(head, head + group), slice(row, row + rows)


def _probabilities(q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """softmax(q k^T + rel_h + rel_w) of one block, at least in float32: (heads, rows, K)."""
    scores = torch.bmm(q, k.transpose(1, 2))
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    grid = scores.unflatten(-1, (rel_h.shape[-1], rel_w.shape[-1]))
    grid.add_(rel_h[..., :, None]).add_(rel_w[..., None, :])
    return torch.softmax(scores, -1, out=scores)


class _Chunked(torch.autograd.Function):
    """q (scaled), k, v: (heads, Q or K, d); rel_h, rel_w: (heads, Q, H), (heads, Q, W) -> (heads, Q, d)."""

    @staticmethod
    def forward(ctx, q, k, v, rel_h, rel_w):
        out = torch.empty_like(q)
        with torch.autocast(q.device.type, enabled=False):
            for heads, rows in _blocks(q.shape[0], q.shape[1], k.shape[1]):
                p = _probabilities(q[heads, rows], k[heads], rel_h[heads, rows], rel_w[heads, rows])
                out[heads, rows] = torch.bmm(p.to(v.dtype), v[heads])
        ctx.save_for_backward(q, k, v, rel_h, rel_w, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        q, k, v, rel_h, rel_w, out = ctx.saved_tensors
        grad_out = grad_out.contiguous()
        grad_q, grad_rel_h, grad_rel_w = torch.empty_like(q), torch.empty_like(rel_h), torch.empty_like(rel_w)
        # keys and values gather over the blocks: in float32 even where the inputs are half precision
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
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), grad_rel_h, grad_rel_w


@cache
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention  # imports the compiler: only when asked for
    return torch.compile(flex_attention) if compiled else flex_attention


def flex(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """PyTorch's ``flex_attention``; compiled on a GPU (not run on one by us), and without it the eager, dense form."""
    width = rel_w.shape[-1]

    def biased(score, b, h, q_index, k_index):
        return score + rel_h[b, h, q_index, k_index // width] + rel_w[b, h, q_index, k_index % width]

    return _flex_attention(q.is_cuda)(q, k, v, score_mod=biased, scale=scale)


FORMS: dict[str, Callable[..., Tensor]] = {'dense': dense, 'folded': folded, 'chunked': chunked, 'flex': flex}
