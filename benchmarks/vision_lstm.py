"""Vision-LSTM: the mLSTM cell and the ViL-T backbone at 196, 1600, 4096 tokens, against the parallel form."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import Row, Step, compare, interleave, is_selected, largest_difference
from benchmarks.reference_mlstm import parallel_mlstm
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.layers import vil
from vitdet_plugin.ops.mlstm import mlstm

_SIDES = {'ours': mlstm, 'parallel': parallel_mlstm}
_HEADS, _DIM = 4, 96  # of ViL-T
# with all blocks, the parallel form takes minutes at 4096 tokens, and 40 GB in training
_BLOCKS, _FEW_BLOCKS = 24, 2


def _cell(side: str, tokens: int, training: bool) -> Step:
    torch.manual_seed(0)
    q, k, v = (torch.randn(_HEADS, tokens, _DIM) for _ in range(3))
    # gates as at the start of training: forget biases from 3 to 6
    i_gate = 0.1 * torch.randn(_HEADS, tokens)
    f_gate = torch.linspace(3, 6, _HEADS)[:, None] + 0.3 * torch.randn(_HEADS, tokens)
    inputs, direction = [q, k, v, i_gate, f_gate], torch.randn(_HEADS, tokens, _DIM)

    def step() -> list[Tensor]:
        if not training:
            with torch.no_grad():
                return [_SIDES[side](*inputs)]
        for x in inputs:
            x.requires_grad_().grad = None
        out = _SIDES[side](*inputs)
        out.backward(direction)
        return [out.detach(), *(x.grad for x in inputs)]
    return step


@contextmanager
def _cell_of(side: str) -> Iterator[None]:
    ours, vil.mlstm = vil.mlstm, _SIDES[side]
    try:
        yield
    finally:
        vil.mlstm = ours


def _backbone(side: str, tokens: int, blocks: int, training: bool) -> Step:
    """ViL-T with ``blocks`` blocks; both sides differ only in the cell."""
    torch.manual_seed(0)
    pixels = 16 * round(tokens ** 0.5)
    model = VisionLSTM(dict(dim=192, depth=blocks), img_size=pixels).train(training)
    image, direction = torch.randn(1, 3, pixels, pixels), torch.randn(1, 192, pixels // 16, pixels // 16)

    def step() -> list[Tensor]:
        with _cell_of(side), torch.set_grad_enabled(training):
            out = model(image)[0]
            if training:
                model.zero_grad(set_to_none=True)
                out.backward(direction)
                return [out.detach(), model.pos_embed.grad]
            return [out]
    return step


def _worst(ours: list[Tensor], reference: list[Tensor]) -> float:
    """Return the largest difference in units of each result's standard deviation."""
    return max(largest_difference(a, b) / b.std().item() for a, b in zip(ours, reference, strict=True))


def _growth(name: str, builder: partial, few: int, many: int) -> Row | None:
    """Compare the time per token for many and for few tokens; 1 is linear growth."""
    path = f'cell, {name}: {many} against {few} tokens'
    if not is_selected(path):
        return None
    timing, _ = interleave(builder(few), builder(many), repeats=5)
    factor = timing.ratio / (many / few)
    return Row(path, 'linear growth', None, None, difference=factor, tolerance=1.6,
               note=f'{factor:.2f} times the time per token')


def _rows_of(name: str, builder: Callable, sizes: tuple[int, ...], **goals: float) -> Iterator[Row | None]:
    for tokens in sizes:
        yield compare(f'{name}, {tokens} tokens', 'parallel', partial(builder, 'ours', tokens),
                      partial(builder, 'parallel', tokens), tolerance=5e-2, check=_worst,
                      time_goal=goals.get(f'at_{tokens}'), repeats=20 if tokens < 1000 else 5)


def rows(quick: bool) -> Iterator[Row | None]:
    """Yield the cell, its growth with the number of tokens, and the backbone."""
    sizes = (196, 576) if quick else (196, 1600, 4096)
    for name, training in (('inference', False), ('training', True)):
        cell = partial(_cell, training=training)
        yield from _rows_of(f'cell {_HEADS} x {_DIM}, {name}', cell, sizes, at_196=1.0, at_4096=13.0)
        yield _growth(name, partial(cell, 'ours'), sizes[-2], sizes[-1])
    for name, training in (('inference', False), ('training', True)):
        for tokens in (sizes[0], sizes[-1]):
            blocks = _FEW_BLOCKS if quick or tokens > 2000 else _BLOCKS
            backbone = partial(_backbone, blocks=blocks, training=training)
            yield from _rows_of(f'ViL-T, {blocks} blocks, {name}', backbone, (tokens,))
