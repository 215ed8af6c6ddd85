"""Part ``time step``: a whole training step of ViTDet-B Mask R-CNN at 1024 x 1024."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from vitdet_plugin.gpu_check.measuring import describe, measure
from vitdet_plugin.gpu_check.results import LEFT_OUT, OK, Result, Settings, attempt, missing_packages

CONFIG, TINY_CONFIG = 'vitdet_100e', 'vitdet_demo'


class Variant(NamedTuple):
    """How a step is computed.

    Attributes:
        attention: form of the attention of the backbone.
        channels_last: whether weights of convolutions are in this layout and AdamW is fused, the defaults on a GPU.
        compiled: whether regions are compiled, as with ``--compile``.
    """

    attention: str = 'auto'
    channels_last: bool = True
    compiled: bool = False


#: The first is what the others are compared with.
VARIANTS = {'without kernels, channels_last and fused AdamW': Variant('folded', False),
            'defaults': Variant(), 'defaults, compiled': Variant(compiled=True)}


def run(settings: Settings) -> Iterator[Result]:
    """Yield images per second, memory and the share of time in which the GPU is busy, of a step in bfloat16."""
    if missing := missing_packages('mmengine', 'mmcv', 'mmdet'):
        yield Result('Mask R-CNN step', LEFT_OUT, f'not installed: {missing}')
        return
    for name, variant in VARIANTS.items():
        label = f'Mask R-CNN step, {name}'
        if variant.compiled and (settings.quick or settings.tiny):
            yield Result(label, LEFT_OUT, 'compiles for long; not with --quick or on a CPU')
        else:
            yield attempt(label, timed, label, variant, settings)


def timed(label: str, variant: Variant, settings: Settings) -> Result:
    """Time forward pass, backward pass and AdamW."""
    from vitdet_plugin.compat.anchor_cache import cache_anchors
    model, side = build(TINY_CONFIG if settings.tiny else CONFIG, variant.attention)
    model = model.to(settings.device).train()
    if variant.channels_last:
        model = model.to(memory_format=torch.channels_last)
        cache_anchors(model)
    if variant.compiled:
        from vitdet_plugin.engine.compiling import compile_regions
        compile_regions(model)
    batch = 1 if settings.tiny else 4 if settings.quick else 8
    data = batch_of(batch, side)
    if settings.device == 'cuda':  # as the data loader returns them
        data['inputs'] = [image.pin_memory() for image in data['inputs']]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, fused=settings.device == 'cuda' and variant.channels_last)

    def step() -> None:
        with torch.autocast(settings.device, torch.bfloat16):
            processed = model.data_preprocessor(data, training=True)
            losses = model(**processed, mode='loss')
            loss, _ = model.parse_losses(losses)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    numbers = measure(step, settings.device, 3.0, warm_up=1 if settings.tiny else 3)
    numbers['images_per_s'] = 1000 * batch / numbers['ms']
    detail = f'{numbers["images_per_s"]:.1f} images/s, {describe(numbers)} for {batch} images'
    if settings.device == 'cuda':
        numbers |= dict(busy=numbers['kernels_ms'] / numbers['ms'], waits=waits(step))
        detail += f', GPU busy {numbers["busy"]:.0%}, {numbers["waits"]} waits for the GPU'
    return Result(label, OK, detail, numbers)


def waits(step: Callable[[], None]) -> int:
    """Return how often the CPU waits for the GPU in a step."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(each.message) for each in caught)


def build(config: str, form: str) -> tuple[Any, int]:
    """Return the detector of a shipped config with random weights, and the side of its input."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.config.names import find_config
    cfg = load_config(find_config(config))
    init_default_scope('mmdet')
    cfg.model.backbone.update(attention=form, init_cfg=None)
    cfg.model.data_preprocessor.non_blocking = True  # as in a training on a GPU
    return MODELS.build(cfg.model), cfg.model.backbone.img_size


def batch_of(images: int, side: int) -> dict[str, list[Any]]:
    """Return random images with ten boxes and masks each, as the data loader returns them."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import PolygonMasks
    from mmengine.structures import InstanceData
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(images):
        corner = torch.rand(10, 2, generator=generator) * side * 0.6
        boxes = torch.cat([corner, corner + side * (0.1 + 0.3 * torch.rand(10, 2, generator=generator))], 1)
        masks = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in boxes.tolist()]
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side),
                                             batch_input_shape=(side, side), scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(10, dtype=torch.long),
                                           masks=PolygonMasks(masks, side, side))
        samples.append(sample)
    inputs = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(images)]
    return dict(inputs=inputs, data_samples=samples)
