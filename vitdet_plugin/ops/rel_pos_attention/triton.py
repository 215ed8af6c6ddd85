"""Attention with relative position bias by Triton kernels, for GPUs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.rel_pos_attention.reference import dense
from vitdet_plugin.ops.triton_support import dot_options, next_power_of_2, with_unit_stride
from vitdet_plugin.ops.tuning import Choice, shape_class

MAX_DIM = 256
_MAX_STRIDE = 1 << 18  # of a row; a block spans at most 8 rows of a grid of 1000 columns
_INPUTS = 'Tensor q, Tensor k, Tensor v, Tensor rel_h, Tensor rel_w'


def rel_pos_attention_triton(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
    """Compute one tile of scores at a time; inputs, output and one number for each query are saved for backward.

    Arguments as :func:`vitdet_plugin.ops.rel_pos_attention.rel_pos_attention`.
    """
    others = (x if x.dtype == q.dtype else x.to(q.dtype) for x in (k, v, rel_h, rel_w))
    out: Tensor = _operator(q, *others, scale)[0]
    return out


def key_tile(width: int, keys: int) -> dict[str, int]:
    """Return rows and columns of a tile of ``keys`` positions that leaves few columns empty at this width."""
    options = [columns for columns in (128, 64, 32, 16) if columns <= keys]
    columns = min(options, key=lambda size: -(-width // size) * size)  # the first, widest of the best
    return dict(ROWS=keys // columns, COLUMNS=columns)


@lru_cache(256)
def _choices(kernel: str, dim: int, width: int, wide: bool) -> tuple[Choice, ...]:
    """Return how to launch a kernel; ``wide`` for float32, which needs more registers and shared memory."""
    block_d = next_power_of_2(dim)
    if wide or block_d > 128:
        sizes = [(32, 32, 4, 1), (64, 32, 8, 1)]
    elif kernel == 'forward':
        sizes = [(64, 64, 4, 3), (64, 64, 4, 4), (128, 64, 8, 4), (64, 32, 4, 3)]
    elif kernel == 'query_gradient':
        sizes = [(64, 64, 4, 3), (128, 64, 8, 3), (64, 64, 4, 1), (64, 32, 4, 2)]
    else:
        sizes = [(64, 64, 4, 1), (64, 128, 8, 2), (64, 64, 4, 2), (64, 32, 4, 2)]
    return tuple(Choice(dict(BLOCK_M=m, **key_tile(width, n)), warps, stages) for m, n, warps, stages in sizes)


def _with_strides(*tensors: Tensor) -> list[Any]:
    return [each for tensor in tensors for each in (tensor, *tensor.stride()[:-1])]


def _loadable(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy where the offsets within a block would not fit into 32 bits."""
    return with_unit_stride(tensor if tensor.stride(-2) < _MAX_STRIDE else tensor.contiguous())


def _tiles(shape: tuple[int, int], choice: Choice) -> tuple[int, int]:
    """Return the number of tiles along y and x."""
    return -(-shape[0] // choice.blocks['ROWS']), -(-shape[1] // choice.blocks['COLUMNS'])


def _forward(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(G, N, ...) tensors of one dtype -> output (G, N, Q, d) and base-2 logarithms of the sums (G, N, Q)."""
    from vitdet_plugin.ops.rel_pos_attention import triton_kernels
    out, lse = _outputs(q, k, v, rel_h, rel_w, scale)
    groups, heads, queries, dim = q.shape
    height, width = rel_h.shape[-1], rel_w.shape[-1]
    if not out.numel():
        return out, lse
    tensors = _with_strides(*map(_loadable, (q, k, v, rel_h, rel_w)), out)

    def launch(choice: Choice) -> None:
        grid = (-(-queries // choice.blocks['BLOCK_M']) * groups * heads,)
        triton_kernels.forward_kernel[grid](
            *tensors, lse, heads, queries, height, width, _tiles((height, width), choice)[1], scale, DIM=dim,
            BLOCK_D=next_power_of_2(dim), **dot_options(q.dtype), **choice.options)

    key = ('rel_pos_attention forward', dim, width, shape_class(queries), shape_class(height), q.dtype)
    tuning.launch_tuned(key, _choices('forward', dim, width, q.dtype == torch.float32), launch, q)
    return out, lse


def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, out: Tensor, lse: Tensor,
              scale: float) -> list[Tensor]:
    """Return the gradients of q, k, v, rel_h and rel_w."""
    from vitdet_plugin.ops.rel_pos_attention import triton_kernels
    groups, heads, queries, dim = q.shape
    height, width = rel_h.shape[-1], rel_w.shape[-1]
    if not out.numel():
        return [x.new_zeros(x.shape) for x in (q, k, v, rel_h, rel_w)]
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    grad, q, k, v, rel_h, rel_w = map(_loadable, (grad, q, k, v, rel_h, rel_w))
    delta = torch.empty_like(lse)
    tensors = [*_with_strides(q, k, v, rel_h, rel_w, grad), lse, delta]
    sizes = (heads, queries, height, width)
    constants = dict(DIM=dim, BLOCK_D=next_power_of_2(dim), **dot_options(q.dtype))
    key = (dim, width, shape_class(queries), shape_class(height), q.dtype)
    wide = q.dtype == torch.float32
    narrow = width <= 64  # its columns fit into one tile; atomic additions are float32
    grad_h, grad_w = (x.new_empty(x.shape, dtype=q.dtype if narrow else torch.float32) for x in (rel_h, rel_w))

    def launch_delta(choice: Choice) -> None:
        grid = (-(-queries // choice.blocks['BLOCK_M']) * groups * heads,)
        triton_kernels.delta_kernel[grid](*_with_strides(out, grad), delta, heads, queries, DIM=dim,
                                          BLOCK_D=constants['BLOCK_D'], **choice.options)

    def launch_queries(choice: Choice) -> None:
        if not narrow:
            grad_h.zero_()
            grad_w.zero_()
        tiles_x = _tiles((height, width), choice)[1]
        grid = (-(-queries // choice.blocks['BLOCK_M']) * groups * heads,)
        triton_kernels.query_gradient_kernel[grid](*tensors, grad_q, grad_h, grad_w, *sizes, tiles_x, scale,
                                                   ONE_X=narrow, **constants, **choice.options)

    def launch_keys(choice: Choice) -> None:
        tiles_y, tiles_x = _tiles((height, width), choice)
        grid = (tiles_y * tiles_x * groups * heads,)
        triton_kernels.key_gradient_kernel[grid](*tensors, grad_k, grad_v, *sizes, tiles_x, scale, **constants,
                                                 **choice.options)

    tuning.launch_tuned(('delta',), [Choice(dict(BLOCK_M=64))], launch_delta, q)
    name = 'rel_pos_attention'
    tuning.launch_tuned((f'{name} queries', *key), _query_choices(dim, width, wide), launch_queries, q)
    tuning.launch_tuned((f'{name} keys', *key), _choices('key_gradient', dim, width, wide), launch_keys, q)
    return [grad_q, grad_k, grad_v, *(x if narrow else x.to(q.dtype) for x in (grad_h, grad_w))]


@lru_cache(256)
def _query_choices(dim: int, width: int, wide: bool) -> tuple[Choice, ...]:
    """Return the choices of the gradients of queries: those whose tiles are as wide as a grid of up to 64."""
    choices = _choices('query_gradient', dim, width, wide)
    if width > 64:
        return choices
    columns = next_power_of_2(width)
    wider = []
    for each in choices:
        rows = max(1, each.blocks['ROWS'] * each.blocks['COLUMNS'] // columns)
        wider.append(each._replace(blocks=dict(BLOCK_M=each.blocks['BLOCK_M'], ROWS=rows, COLUMNS=columns)))
    return tuple(each for i, each in enumerate(wider) if each not in wider[:i])


def _outputs(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the empty outputs; heads are interleaved in memory, so that joining them is free."""
    groups, heads, queries, dim = q.shape
    out = q.new_empty(groups, queries, heads, dim).transpose(1, 2)
    return out, q.new_empty(groups, heads, queries, dtype=torch.float32)


_operator = Differentiable(
    'rel_pos_attention_triton', f'({_INPUTS}, float scale) -> (Tensor, Tensor)', _forward, _outputs,
    Registered('rel_pos_attention_triton_backward',
               f'(Tensor grad, {_INPUTS}, Tensor out, Tensor lse, float scale) -> Tensor[]', _backward,
               lambda grad, *saved: [x.new_empty(x.shape) for x in saved[:5]]),
    reference=dense, saved=(0, 1), cast=triton_support.to_widest)


def _why_not(case: Case) -> str | None:
    if case.options.get('head_dim', 0) > MAX_DIM:
        return f'serves head sizes up to {MAX_DIM}'
    return triton_support.why_not(case)


BACKEND = Backend('triton', rel_pos_attention_triton, _why_not)
