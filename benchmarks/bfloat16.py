"""Backbones with autocast to bfloat16 against their own float32, at inference on the CPU."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.harness import Row, Step, compare
from benchmarks.peers import relative_error
from vitdet_plugin.backbones.convnext import ConvNeXtBackbone
from vitdet_plugin.backbones.internimage import InternImage
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.backbones.volo import VOLO


def _vil(side: int) -> nn.Module:
    return VisionLSTM(dict(dim=192, depth=24), img_size=side)


_MODELS: tuple[tuple[str, Callable[[int], nn.Module], tuple[int, int], float | None], ...] = (
    ('InternImage-T', lambda side: InternImage('tiny'), (800, 1216), 1.6),
    ('ViL-T', _vil, (640, 640), 1.5),
    ('VOLO-D1', lambda side: VOLO('d1'), (640, 640), 1.5),
    ('ConvNeXt-T', lambda side: ConvNeXtBackbone('tiny', layer_scale_init_value=1.0), (640, 640), None))


def _step(index: int, size: tuple[int, int], half: bool) -> Step:
    torch.manual_seed(0)
    model, image = _MODELS[index][1](size[0]).eval(), torch.randn(1, 3, *size)

    def step() -> list[Tensor]:
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=half):
            return [each.float() for each in model(image)]
    return step


def _largest_error(ours: list[Tensor], reference: list[Tensor]) -> float:
    return max(relative_error(*maps) for maps in zip(ours, reference, strict=True))


def rows(quick: bool) -> Iterator[Row | None]:
    """Yield one row for each backbone; the difference is the relative error of the worst map."""
    for index, (name, _, size, goal) in enumerate(_MODELS):
        size = (128, 128) if quick else size
        yield compare(f'{name}, {size[0]}x{size[1]}, inference, bf16', 'the same, float32',
                      partial(_step, index, size, True), partial(_step, index, size, False), check=_largest_error,
                      tolerance=2e-2, memory=not quick, time_goal=None if quick else goal)
