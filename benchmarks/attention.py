"""Attention with relative position bias at ViT-B's shapes for 1024^2, against materialised attention."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import Row, Step, compare
from benchmarks.reference_attention import ReferenceAttention
from vitdet_plugin.layers.attention import WindowAttention

_DIM, _HEADS = 768, 12


def _module(kind: type[WindowAttention], grid: int, window: int) -> WindowAttention:
    torch.manual_seed(0)
    module = kind(_DIM, _HEADS, window_size=window, rel_pos_size=window or grid)
    for parameter in (module.rel_pos_h, module.rel_pos_w):
        torch.nn.init.normal_(parameter, std=0.02)
    return module


def _inference(kind: type[WindowAttention], grid: int, window: int) -> Step:
    module = _module(kind, grid, window).eval()
    x = torch.randn(1, grid, grid, _DIM)

    def step() -> Tensor:
        with torch.no_grad():
            return module(x)
    return step


def _training(kind: type[WindowAttention], grid: int, window: int) -> Step:
    module = _module(kind, grid, window)
    x = torch.randn(1, grid, grid, _DIM, requires_grad=True)
    direction = torch.randn(1, grid, grid, _DIM)

    def step() -> list[Tensor]:
        module.zero_grad(set_to_none=True)
        x.grad = None
        out = module(x)
        out.backward(direction)
        return [out.detach(), x.grad, module.rel_pos_h.grad]
    return step


def rows(quick: bool) -> Iterator[Row]:
    """Global and windowed blocks, inference and training, projections included on both sides."""
    grid = 32 if quick else 64
    repeats = 3 if quick else 5
    for name, window, builder, goals in [
        ('global attention, inference', 0, _inference, dict(time_goal=2.7, memory_goal=15)),
        ('global attention, training', 0, _training, dict(time_goal=1.2, memory_goal=5)),
        ('windowed attention, inference', 14, _inference, {}),
        ('windowed attention, training', 14, _training, {}),
    ]:
        yield compare(f'{name}, {grid}x{grid} tokens', 'materialised', partial(builder, WindowAttention, grid, window),
                      partial(builder, ReferenceAttention, grid, window), tolerance=2e-3, repeats=repeats, **goals)
