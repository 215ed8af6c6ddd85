"""Multi-scale deformable attention at DINO's shapes, and a whole DINO-InternImage-T, against mmcv's forms."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vitdet_plugin
from benchmarks.harness import Row, Step, compare
from vitdet_plugin.ops.ms_deform_attn import cpu, ms_deform_attn
from vitdet_plugin.utils.output import suppress_logs

_SIZE = (800, 1216)
_HEADS, _CHANNELS, _POINTS = 8, 32, 4


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return height and width of DINO's four levels: strides of 8, 16, 32 and 64."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (8, 16, 32, 64)]


def mmcv_form() -> Any:
    """Return mmcv's function without the patch of this package."""
    vitdet_plugin.register_all()
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    return multi_scale_deformable_attn_pytorch.__wrapped__


def _inputs(size: tuple[int, int], queries: int | None) -> tuple[Tensor, list[Tensor]]:
    """Return sizes of the levels, and value, locations and weights with samples up to about 3 pixels from a query.

    Queries are random, as in a decoder, or by default all pixels, as in an encoder. Samples do not lie on pixels, where
    the derivative is discontinuous and both forms may differ.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = level_sizes(size)
    if queries is None:
        grids = [torch.meshgrid((torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height,
                                indexing='xy') for height, width in sizes]
        centers = torch.cat([torch.stack(grid, -1).flatten(0, 1) for grid in grids])
    else:
        centers = torch.rand(queries, 2, generator=generator)
    shapes = torch.tensor(sizes)
    span = shapes.flip(1)[:, None].float()
    cell = (centers[:, None, None, None] * span
            + 3 * torch.randn(len(centers), _HEADS, len(sizes), _POINTS, 2, generator=generator)).floor()
    locations = (cell + 0.6 + 0.8 * torch.rand(cell.shape, generator=generator)) / span
    weights = torch.rand(len(centers), _HEADS, len(sizes) * _POINTS, generator=generator).softmax(-1)
    value = torch.randn(1, int(shapes.prod(1).sum()), _HEADS, _CHANNELS, generator=generator)
    return shapes, [value, locations[None], weights.view(1, *locations.shape[:-1])]


def _operator(reference: bool, size: tuple[int, int], queries: int | None, training: bool, dtype: torch.dtype) -> Step:
    shapes, tensors = _inputs(size, queries)
    function = mmcv_form() if reference else ms_deform_attn
    inputs = [each.to(dtype) for each in tensors]
    if reference:
        inputs = [each.float() for each in inputs]  # the same rounded numbers
    direction = torch.randn(1, inputs[1].shape[1], _HEADS * _CHANNELS, generator=torch.Generator().manual_seed(1))

    def step() -> list[Tensor]:
        value, locations, weights = (each.detach().requires_grad_(training) for each in inputs)
        out = function(value, shapes, locations, weights)
        if not training:
            return [out]
        return [out.detach(), *torch.autograd.grad(out, (value, locations, weights), direction.to(out.dtype))]
    return step


def dino(queries: int) -> Any:
    """Return mmdet's DINO of 4 scales on InternImage-T, with random weights and a number of queries."""
    vitdet_plugin.register_all()
    import mmdet
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')
    configs = Path(mmdet.__file__).parent / '.mim' / 'configs'
    cfg = Config.fromfile(str(configs / 'dino' / 'dino-4scale_r50_8xb2-12e_coco.py')).model
    cfg.backbone = dict(type='InternImage', arch='tiny', out_indices=(1, 2, 3))
    cfg.neck.in_channels, cfg.num_queries = [128, 256, 512], queries
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    with suppress_logs():
        model.init_weights()  # mmdet leaves the level embedding uninitialized otherwise
    return model.eval()


@contextlib.contextmanager
def _layers_of_mmcv(active: bool) -> Iterator[None]:
    """Use mmcv's own transformer layers, without the patches of this package."""
    from mmcv.cnn.bricks import transformer
    from mmcv.ops import multi_scale_deform_attn as module
    targets = [(module, 'multi_scale_deformable_attn_pytorch'), (module.MultiScaleDeformableAttention, 'forward'),
               (transformer.FFN, 'forward'), (transformer.MultiheadAttention, '__init__')] if active else []
    patched = [(owner, name, getattr(owner, name)) for owner, name in targets]
    for owner, name, replacement in patched:
        setattr(owner, name, replacement.__wrapped__)
    try:
        yield
    finally:
        for owner, name, replacement in patched:
            setattr(owner, name, replacement)


def _detector(reference: bool, size: tuple[int, int], queries: int) -> Step:
    from mmdet.structures import DetDataSample
    vitdet_plugin.register_all()
    with _layers_of_mmcv(reference):
        model = dino(queries)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))

    def step() -> list[Tensor]:
        sample = DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=size, ori_shape=size,
                                             scale_factor=(1.0, 1.0)))
        with _layers_of_mmcv(reference), torch.no_grad():
            found = model.predict(image, [sample])[0].pred_instances
        return [found.scores.sort(descending=True)[0]]
    return step


def _relative(ours: list[Tensor], reference: list[Tensor]) -> float:
    """Return the largest norm of a difference, relative to the norm of the reference."""
    return max(((a.float() - b).norm() / b.norm()).item() for a, b in zip(ours, reference, strict=True))


def rows(quick: bool) -> Iterator[Row | None]:
    """Yield the operator for decoder and encoder, inference and training, then the whole detector."""
    size, few = ((96, 128), 50) if quick else (_SIZE, 900)
    if cpu.STATUS['cpu'] is None:
        every = sum(height * width for height, width in level_sizes(size))
        for queries, count in ((few, few), (None, every)):
            for training, goal in ((False, 6), (True, 5)):
                for dtype, name, tolerance in ((torch.float32, '', 1e-4), (torch.bfloat16, ', bf16', 2e-2)):
                    mode = 'forward and backward' if training else 'forward'
                    yield compare(f'{count} queries, {mode}{name}', "mmcv's grid_sample of each level, float32",
                                  *(partial(_operator, form, size, queries, training, dtype)
                                    for form in (False, True)),
                                  tolerance=tolerance, check=_relative, memory=not name,
                                  time_goal=None if name else goal)
    else:
        print(f'the compiled operator is not measured: {cpu.STATUS["cpu"]}')
    # a random DINO has proposals of almost equal scores: an image times 1 + 1e-6 changes the result by 3e-4
    yield compare(f'DINO-InternImage-T, {size[0]}x{size[1]}, inference', "the same with mmcv's layers",
                  *(partial(_detector, form, size, few) for form in (False, True)), tolerance=1e-3, time_goal=2)
