"""Attention with relative position bias at ViT-B's shapes for 1024^2, against materialized attention."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Row, Step, compare
from benchmarks.reference_attention import ReferenceAttention, materialized_attention, relative_error
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.layers.pos_embed import decomposed_rel_pos
from vitdet_plugin.ops.rel_pos_attention import rel_pos_attention
from vitdet_plugin.ops.rel_pos_attention.cpu import compiled_attention

_DIM, _HEADS = 768, 12


def _module(kind: type[WindowAttention], window: int) -> WindowAttention:
    torch.manual_seed(0)
    module = kind(_DIM, _HEADS, window_size=window, rel_pos_size=window)
    for parameter in (module.rel_pos_h, module.rel_pos_w):
        torch.nn.init.normal_(parameter, std=0.02)
    return module


def _inference(kind: type[WindowAttention], grid: int, window: int) -> Step:
    module = _module(kind, window).eval()
    x = torch.randn(1, grid, grid, _DIM)

    def step() -> Tensor:
        with torch.no_grad():
            return module(x)
    return step


def _training(kind: type[WindowAttention], grid: int, window: int) -> Step:
    module = _module(kind, window)
    x = torch.randn(1, grid, grid, _DIM, requires_grad=True)
    direction = torch.randn(1, grid, grid, _DIM)

    def step() -> list[Tensor]:
        module.zero_grad(set_to_none=True)
        x.grad = None
        out = module(x)
        out.backward(direction)
        return [out.detach(), x.grad, module.rel_pos_h.grad]
    return step


def _core(reference: bool, grid: int, training: bool) -> Step:
    """Relative positions, scores, softmax and weighted sum of a global block, without the projections."""
    torch.manual_seed(0)
    dim = _DIM // _HEADS
    q, k, v = (torch.randn(1, _HEADS, grid * grid, dim) for _ in range(3))
    table_h, table_w = (0.02 * torch.randn(2 * grid - 1, dim) for _ in range(2))
    direction, inputs = torch.randn(1, _HEADS, grid * grid, dim), [q, k, v, table_h, table_w]

    def attend() -> Tensor:
        if reference:
            flat = (x.flatten(0, 1) for x in (q, k, v))
            return materialized_attention(*flat, table_h, table_w, (grid, grid), dim ** -0.5)[None]
        rel_h, rel_w = decomposed_rel_pos(q, table_h, table_w, (grid, grid))
        return rel_pos_attention(q, k, v, rel_h, rel_w, dim ** -0.5)

    def step() -> list[Tensor]:
        if not training:
            with torch.no_grad():
                return [attend()]
        for x in inputs:
            x.requires_grad_().grad = None
        attend().backward(direction)
        return [x.grad for x in inputs]
    return step


def _in_bfloat16(reference: bool, grid: int, bias: bool, training: bool) -> Step:
    """The core of a global block in bfloat16; without bias against PyTorch's fused attention."""
    torch.manual_seed(0)
    dim = _DIM // _HEADS
    q, k, v, direction = (torch.randn(1, _HEADS, grid * grid, dim).bfloat16() for _ in range(4))
    tables = [(0.02 * torch.randn(2 * grid - 1, dim)).bfloat16() for _ in range(2)]
    inputs = [q, k, v, *tables] if bias else [q, k, v]

    def attend() -> Tensor:
        if not bias:
            with nullcontext() if reference else compiled_attention(q):
                return F.scaled_dot_product_attention(q, k, v)
        if reference:
            flat = (x.flatten(0, 1) for x in (q, k, v))
            return materialized_attention(*flat, *tables, (grid, grid), dim ** -0.5)[None]
        rel_h, rel_w = decomposed_rel_pos(q, *tables, (grid, grid))
        return rel_pos_attention(q, k, v, rel_h, rel_w, dim ** -0.5)

    def step() -> Tensor | list[Tensor]:
        if not training:
            with torch.no_grad():
                return attend()
        for x in inputs:
            x.requires_grad_()
        return list(torch.autograd.grad(attend(), inputs, direction))
    return step


def rows(quick: bool) -> Iterator[Row]:
    """Yield the attention of a global block, then windowed modules with their projections."""
    grid = 32 if quick else 64
    repeats = 3 if quick else 5
    for name, training, goals in [('inference', False, dict(time_goal=2.7, memory_goal=15)),
                                  ('training', True, dict(time_goal=1.2, memory_goal=5))]:
        yield compare(f'global block {_HEADS} x {grid * grid} x 64, {name}', 'materialized',
                      partial(_core, False, grid, training), partial(_core, True, grid, training), tolerance=2e-3,
                      repeats=repeats, **goals)
    for name, form, bias, training, goals in [
        (', bfloat16, inference', 'materialized', True, False, dict(time_goal=2.5)),
        (', bfloat16, training', 'materialized', True, True, {}),
        (' without bias, bfloat16, inference', "PyTorch's fused attention", False, False, {}),
    ]:
        yield compare(f'global block {_HEADS} x {grid * grid} x 64{name}', form,
                      partial(_in_bfloat16, False, grid, bias, training),
                      partial(_in_bfloat16, True, grid, bias, training), tolerance=2e-2, check=relative_error,
                      repeats=repeats, **goals)
    for name, builder in [('inference', _inference), ('training', _training)]:
        yield compare(f'windows, with projections, {name}, {grid}x{grid} tokens', 'materialized',
                      partial(builder, WindowAttention, grid, 14), partial(builder, ReferenceAttention, grid, 14),
                      tolerance=2e-3, repeats=repeats)
