"""DCNv3 at InternImage-T's 30 operator shapes against the official PyTorch form, forward and backward."""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Row, Step, compare, is_selected
from benchmarks.reference_dcnv3 import reference_dcnv3
from ops_dcnv3 import DCNv3, native
from ops_dcnv3.geometry import Geometry
from ops_dcnv3.reference import dcnv3_pytorch
from vitdet_plugin.backbones.internimage import InternImage

_DEPTHS, _GROUPS = (4, 4, 18, 4), (4, 8, 16, 32)  # InternImage-T; groups of 16 channels
_STRIDES = (4, 8, 16, 32)


def _inputs(size: tuple[int, int], stage: int) -> tuple[list[Tensor], Geometry]:
    """Return value, offset and modulation of one stage, with samples up to about 2 pixels from the kernel's cells.

    Offsets are not near whole numbers, where the derivative is discontinuous and both forms may differ.
    """
    generator = torch.Generator().manual_seed(stage)
    height, width = (-(-s // _STRIDES[stage]) for s in size)
    group = _GROUPS[stage]
    whole = torch.randn(1, height, width, group * 18, generator=generator).round() - 0.5
    offset = whole + 0.8 * (torch.rand(whole.shape, generator=generator) - 0.5)
    mask = torch.rand(1, height, width, group, 9, generator=generator).softmax(-1).flatten(-2)
    value = torch.randn(1, height, width, group * 16, generator=generator)
    return [value, offset, mask], Geometry(3, 3, 1, 1, 1, 1, 1, 1, group, 16, 1.0, False)


_FORMS = {'reference': reference_dcnv3, 'pytorch': dcnv3_pytorch, 'cpu': lambda *args: native.run(*args)}


def _step(form: str, size: tuple[int, int], training: bool, depths: tuple[int, ...] = _DEPTHS) -> Step:
    """Return a step that runs all operators of the backbone and returns the last results of each stage."""
    stages = [_inputs(size, stage) for stage in range(len(depths))]
    directions = [torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(9)) for inputs, _ in stages]
    op = _FORMS[form]

    def step() -> list[Tensor]:
        results = []
        for (inputs, geometry), direction, depth in zip(stages, directions, depths):
            for _ in range(depth):
                with torch.set_grad_enabled(training):
                    tensors = [t.detach().requires_grad_(training) for t in inputs]
                    found = [op(*tensors, geometry)]
                if training:
                    found = [found[0].detach(), *torch.autograd.grad(found[0], tensors, direction)]
            results.append(found)
        return results
    return step


def saved_bytes(form: str, size: tuple[int, int], depths: tuple[int, ...]) -> int:
    """Return the bytes that the operators save for the backward pass, including their inputs."""
    total = 0
    for stage, depth in enumerate(depths):
        tensors, geometry = _inputs(size, stage)
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept=kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = _FORMS[form](*(t.requires_grad_() for t in tensors), geometry)
        total += depth * sum(kept.values())
        del out
    return total


class _ReferenceLayer(DCNv3):
    """The layer with the reference operator; the rest is the same."""

    def forward(self, x: Tensor) -> Tensor:
        value, features = self.input_proj(x), self.dw_conv(x.permute(0, 3, 1, 2))
        mask = F.softmax(self.mask(features).unflatten(-1, (self.group, -1)), -1).flatten(-2)
        geometry = Geometry(3, 3, 1, 1, 1, 1, 1, 1, self.group, self.group_channels, self.offset_scale, False)
        return self.output_proj(reference_dcnv3(value, self.offset(features), mask, geometry))


def _backbone(reference: bool, size: tuple[int, int], training: bool) -> Step:
    torch.manual_seed(0)
    model = InternImage('tiny')
    for module in model.modules():
        if isinstance(module, DCNv3):  # samples between pixels, as in a trained model
            torch.nn.init.normal_(module.offset.weight, std=0.02)
            torch.nn.init.uniform_(module.offset.bias, 0.2, 0.4)
            if reference:
                module.__class__ = _ReferenceLayer
    image = torch.randn(1, 3, *size)

    def step() -> list[Tensor]:
        with torch.set_grad_enabled(training):
            maps = model(image)
        if training:
            model.zero_grad(set_to_none=True)
            sum(x.square().mean() for x in maps).backward()
            return [x.detach() for x in maps] + [model.levels[0].blocks[0].dcn.input_proj.weight.grad]
        return list(maps)
    return step


def _operators(ours: str, size: tuple[int, int], training: bool, depths: tuple[int, ...],
               **goals: float) -> Row | None:
    mode = 'forward and backward' if training else 'forward'
    path, note = f'{ours}, {size[0]}x{size[1]}, {mode}', ''
    if training and is_selected(path):
        note = 'saved for backward {:.0f} against {:.0f} MiB'.format(
            *(saved_bytes(form, size, depths) / 2**20 for form in (ours, 'reference')))
    return compare(
        path, 'grid_sample of all points',
        *(partial(_step, form, size, training, depths) for form in (ours, 'reference')), tolerance=5e-3, note=note,
        **goals)


def rows(quick: bool) -> Iterator[Row | None]:
    """Yield the compiled operator, if available, the PyTorch backend, and the backbone."""
    small, large = ((64, 64), (96, 128)) if quick else ((224, 224), (800, 1216))
    one = (1, 1, 1, 1)
    depths = one if quick else _DEPTHS
    if native.STATUS['cpu'] is None:
        for size, (forward, both) in ((small, (10, 9)), (large, (15, 10))):
            yield _operators('cpu', size, False, depths, time_goal=forward)
            yield _operators('cpu', size, True, depths, time_goal=both)
    else:
        print(f'the compiled operator is not measured: {native.STATUS["cpu"]}')
    for size, each, goals in ((small, depths, dict(time_goal=1.3)),
                              (large, one, dict(time_goal=1.3, memory_goal=4))):  # one of each stage: 30 take minutes
        yield _operators('pytorch', size, False, each, **goals)
        yield _operators('pytorch', size, True, each, time_goal=1.0)  # never slower
    for training in (False, True):
        mode = 'forward and backward' if training else 'forward'
        yield compare(
            f'InternImage-T backbone, {large[0]}x{large[1]}, {mode}', 'the same with grid_sample of all points',
            *(partial(_backbone, form, large, training) for form in (False, True)), tolerance=5e-3,
            time_goal=None if training else 2.4)
