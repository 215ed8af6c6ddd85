"""Inputs of every operator for the comparison with float64, and for timing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitdet_plugin.gpu_check.results import Settings

Call = Callable[[list[Tensor], str], Tensor]


class OperatorCase(NamedTuple):
    """One call of an operator.

    Attributes:
        label: shapes in words.
        tensors: inputs in float64 on the CPU.
        call: takes the inputs and the name of a backend, returns the output.
        keep: indices of inputs that stay float32 or wider, such as gates.
        options: properties of the case on which the choice of a backend depends.
        differentiable: whether gradients are compared and timed as well.
    """

    label: str
    tensors: list[Tensor]
    call: Call
    keep: tuple[int, ...] = ()
    options: dict[str, Any] = {}
    differentiable: bool = True

    def dtype_of(self, index: int, dtype: torch.dtype) -> torch.dtype:
        """Return the type of an input where the case is computed in ``dtype``."""
        return torch.float32 if index in self.keep else dtype

    def cast(self, device: str, dtype: torch.dtype) -> list[Tensor]:
        """Return the inputs on a device, in the types of a computation in ``dtype``."""
        return [x.to(device, self.dtype_of(i, dtype)) for i, x in enumerate(self.tensors)]


def cases(operator: str, settings: Settings) -> Iterator[OperatorCase]:
    """Yield the cases for the comparison, odd sizes among them."""
    generator = torch.Generator().manual_seed(settings.seed)
    size = 'tiny' if settings.tiny else 'quick' if settings.quick else 'full'
    for arguments in SHAPES[operator][size]:
        yield BUILD[operator](generator, **arguments)


def timed_cases(operator: str, settings: Settings) -> Iterator[OperatorCase]:
    """Yield the cases for timing: the sizes of published models."""
    generator = torch.Generator().manual_seed(settings.seed)
    for arguments in SHAPES[operator]['tiny' if settings.tiny else 'timed'][:1 if settings.tiny else None]:
        yield BUILD[operator](generator, **arguments)


def _rel_pos_attention(generator: torch.Generator, groups: int, heads: int, grid: tuple[int, int], dim: int,
                       queries: int = 0) -> OperatorCase:
    from vitdet_plugin.ops.rel_pos_attention import rel_pos_attention
    keys = grid[0] * grid[1]
    queries = queries or keys
    shapes = [(queries, dim), (keys, dim), (keys, dim), (queries, grid[0]), (queries, grid[1])]
    tensors = [torch.randn(groups, heads, *shape, generator=generator, dtype=torch.float64) for shape in shapes]

    def call(x: list[Tensor], form: str) -> Tensor:
        q, k, v, rel_h, rel_w = x
        return rel_pos_attention(q, k, v, rel_h, rel_w, dim ** -0.5, form)

    return OperatorCase(f'{groups}x{heads} heads of {dim}, {queries} queries, {grid[0]}x{grid[1]} keys', tensors, call,
                        options=dict(head_dim=dim))


def _mlstm(generator: torch.Generator, heads: int, tokens: int, dim: int) -> OperatorCase:
    from vitdet_plugin.ops.mlstm import mlstm
    tensors = [torch.randn(heads, tokens, dim, generator=generator, dtype=torch.float64) for _ in range(3)]
    for tensor in tensors[:2]:
        tensor += 1.0  # sums of q k far from 0, near which 16-bit types lose all digits of the gradients
    gates = [scale * torch.randn(heads, tokens, generator=generator, dtype=torch.float64) for scale in (1.0, 0.3)]
    return OperatorCase(f'{heads} heads of {dim}, {tokens} tokens', [*tensors, gates[0], gates[1] + 4.0],
                        lambda x, form: mlstm(*x, form=form), keep=(3, 4), options=dict(tokens=tokens, head_dim=dim))


def _outlook_attention(generator: torch.Generator, batch: int, grid: tuple[int, int], heads: int,
                       dim: int) -> OperatorCase:
    from vitdet_plugin.ops.outlook_attention import outlook_attention
    v = torch.randn(batch, *grid, heads * dim, generator=generator, dtype=torch.float64)
    a = torch.randn(batch, *(-(-side // 2) for side in grid), heads * 81, generator=generator, dtype=torch.float64)
    return OperatorCase(f'{batch}x{grid[0]}x{grid[1]}, {heads} heads of {dim}', [v, a],
                        lambda x, form: outlook_attention(*x, heads, scale=dim ** -0.5, form=form))


def _tap_softmax(generator: torch.Generator, rows: int, taps: int) -> OperatorCase:
    from vitdet_plugin.ops.tap_softmax import tap_softmax
    logits = torch.randn(rows, 4 * taps, generator=generator, dtype=torch.float64)
    return OperatorCase(f'{rows}x4 runs of {taps}', [logits], lambda x, form: tap_softmax(*x, taps, backend=form))


def _dcnv3(generator: torch.Generator, batch: int, grid: tuple[int, int], group: int, channels: int,
           kernel: int = 3) -> OperatorCase:
    from ops_dcnv3 import dcnv3
    points, pad = group * kernel * kernel, kernel // 2
    value = torch.randn(batch, *grid, group * channels, generator=generator, dtype=torch.float64)
    # fractions from 0.1 to 0.9, because the derivative is discontinuous at whole pixels
    whole = torch.randint(-2, 3, (batch, *grid, points * 2), generator=generator)
    offset = whole + 0.1 + 0.8 * torch.rand(whole.shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(batch, *grid, points, generator=generator, dtype=torch.float64)

    def call(x: list[Tensor], backend: str) -> Tensor:
        value, offset, mask = x
        return dcnv3(value, offset, mask, kernel, kernel, 1, 1, pad, pad, 1, 1, group, channels, 1.0, backend=backend)

    return OperatorCase(f'{batch}x{grid[0]}x{grid[1]}, {group} groups of {channels}, {kernel}x{kernel}',
                        [value, offset, mask], call, options=dict(group_channels=channels))


def _ms_deform_attn(generator: torch.Generator, sizes: list[tuple[int, int]], queries: int, heads: int = 8,
                    channels: int = 32, points: int = 4) -> OperatorCase:
    from vitdet_plugin.ops.ms_deform_attn import ms_deform_attn
    shapes = torch.tensor(sizes)
    span = shapes.flip(1)[:, None]
    shape = 1, queries, heads, len(sizes), points
    value = torch.randn(1, int(shapes.prod(1).sum()), heads, channels, generator=generator, dtype=torch.float64)
    # positions with fractions from 0.1 to 0.9, because the derivative is discontinuous at whole pixels
    cell = (torch.rand(*shape, 2, generator=generator) * (span + 3)).floor() - 1.4
    locations = (cell + 0.8 * torch.rand(cell.shape, generator=generator, dtype=torch.float64)) / span
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    return OperatorCase(f'{queries} queries, {heads} heads of {channels}, {len(sizes)} levels',
                        [value, locations, weights],
                        lambda x, form: ms_deform_attn(x[0], shapes, x[1], x[2], backend=form), keep=(1,),
                        options=dict(channels=channels))


def _nms(generator: torch.Generator, boxes: int, side: int = 200) -> OperatorCase:
    from vitdet_plugin.ops.nms import nms
    # corners at whole pixels, whose IoU is a fraction that float32 and float64 compare in the same way
    corner = torch.randint(0, side, (boxes, 2), generator=generator)
    size = torch.randint(5, 60, (boxes, 2), generator=generator)
    scores = torch.rand(boxes, generator=generator, dtype=torch.float64)

    def call(x: list[Tensor], backend: str) -> Tensor:
        return nms(x[0], x[1], 0.654321, backend).to(x[1].dtype)

    return OperatorCase(f'{boxes} boxes', [torch.cat([corner, corner + size], 1).double(), scores], call, keep=(0, 1),
                        options=dict(boxes=boxes), differentiable=False)


BUILD: dict[str, Callable[..., OperatorCase]] = dict(
    rel_pos_attention=_rel_pos_attention, mlstm=_mlstm, outlook_attention=_outlook_attention, tap_softmax=_tap_softmax,
    dcnv3=_dcnv3, ms_deform_attn=_ms_deform_attn, nms=_nms)

#: operator -> 'tiny' (tests on a CPU), 'quick', 'full' -> arguments of the builder; 'timed' for timing
SHAPES: dict[str, dict[str, list[dict[str, Any]]]] = dict(
    rel_pos_attention=dict(
        tiny=[dict(groups=1, heads=1, grid=(3, 5), dim=8)],
        quick=[dict(groups=3, heads=2, grid=(14, 14), dim=64), dict(groups=1, heads=2, grid=(5, 7), dim=20, queries=37),
               dict(groups=1, heads=1, grid=(3, 100), dim=80), dict(groups=1, heads=1, grid=(64, 64), dim=64)],
        full=[dict(groups=3, heads=2, grid=(14, 14), dim=64), dict(groups=1, heads=2, grid=(5, 7), dim=20, queries=37),
              dict(groups=1, heads=1, grid=(3, 100), dim=80), dict(groups=1, heads=2, grid=(64, 64), dim=64),
              dict(groups=1, heads=1, grid=(50, 76), dim=80), dict(groups=2, heads=1, grid=(24, 33), dim=96),
              dict(groups=1, heads=1, grid=(20, 200), dim=128), dict(groups=700, heads=12, grid=(2, 3), dim=16)],
        timed=[dict(groups=1, heads=12, grid=(64, 64), dim=64), dict(groups=25, heads=12, grid=(14, 14), dim=64),
               dict(groups=1, heads=16, grid=(64, 64), dim=80)]),
    mlstm=dict(
        tiny=[dict(heads=1, tokens=37, dim=8)],
        quick=[dict(heads=3, tokens=197, dim=96), dict(heads=2, tokens=1000, dim=40)],
        full=[dict(heads=3, tokens=197, dim=96), dict(heads=2, tokens=1000, dim=40),
              dict(heads=4, tokens=1600, dim=192), dict(heads=2, tokens=700, dim=384),
              dict(heads=1, tokens=2500, dim=96)],
        timed=[dict(heads=4, tokens=4096, dim=96), dict(heads=4, tokens=4096, dim=384)]),
    outlook_attention=dict(
        tiny=[dict(batch=1, grid=(3, 4), heads=1, dim=4)],
        quick=[dict(batch=2, grid=(13, 18), heads=3, dim=32), dict(batch=1, grid=(7, 5), heads=2, dim=20)],
        full=[dict(batch=2, grid=(13, 18), heads=3, dim=32), dict(batch=1, grid=(7, 5), heads=2, dim=20),
              dict(batch=1, grid=(80, 80), heads=6, dim=32)],
        timed=[dict(batch=1, grid=(80, 80), heads=6, dim=32), dict(batch=8, grid=(80, 80), heads=6, dim=32)]),
    tap_softmax=dict(tiny=[dict(rows=7, taps=9)], quick=[dict(rows=100, taps=9)],
                     full=[dict(rows=100, taps=9), dict(rows=1000, taps=8)], timed=[]),
    nms=dict(tiny=[dict(boxes=9)], quick=[dict(boxes=1000)], full=[dict(boxes=1000), dict(boxes=8740, side=1000)],
             timed=[dict(boxes=1000), dict(boxes=8740, side=1000)]),
    dcnv3=dict(
        tiny=[dict(batch=1, grid=(4, 5), group=2, channels=4)],
        quick=[dict(batch=2, grid=(13, 18), group=4, channels=16), dict(batch=1, grid=(7, 5), group=3, channels=20)],
        full=[dict(batch=2, grid=(13, 18), group=4, channels=16), dict(batch=1, grid=(7, 5), group=3, channels=20),
              dict(batch=1, grid=(50, 76), group=8, channels=32),
              dict(batch=1, grid=(9, 9), group=1, channels=64, kernel=5)],
        timed=[dict(batch=1, grid=(200, 304), group=4, channels=16),
               dict(batch=1, grid=(50, 76), group=16, channels=16)]),
    ms_deform_attn=dict(
        tiny=[dict(sizes=[(3, 4), (2, 2)], queries=5, heads=2, channels=4, points=2)],
        quick=[dict(sizes=[(13, 18), (7, 9)], queries=70), dict(sizes=[(5, 7)], queries=9, heads=3, channels=20)],
        full=[dict(sizes=[(13, 18), (7, 9)], queries=70), dict(sizes=[(5, 7)], queries=9, heads=3, channels=20),
              dict(sizes=[(25, 38), (13, 19)], queries=900)],
        timed=[dict(sizes=[(100, 152), (50, 76), (25, 38), (13, 19)], queries=count) for count in (900, 20_197)]))
