"""Part ``time step``: a whole training step of ViTDet-B Mask R-CNN at 1024 x 1024."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vitdet_plugin.gpu_check.measuring import describe, measure
from vitdet_plugin.gpu_check.results import LEFT_OUT, OK, Result, Settings, attempt, missing_packages

CONFIG, TINY_CONFIG = 'vitdet_100e', 'vitdet_demo'


def run(settings: Settings) -> Iterator[Result]:
    """Yield images per second and memory of a step in bfloat16, with the chosen attention and the one before it."""
    if missing := missing_packages('mmengine', 'mmcv', 'mmdet'):
        yield Result('Mask R-CNN step', LEFT_OUT, f'not installed: {missing}')
        return
    for form in ('auto',) if settings.tiny else ('auto', 'folded'):
        label = f'Mask R-CNN step, attention={form}'
        yield attempt(label, timed, label, form, settings)


def timed(label: str, form: str, settings: Settings) -> Result:
    """Time forward pass, backward pass and AdamW."""
    model, side = build(TINY_CONFIG if settings.tiny else CONFIG, form)
    model = model.to(settings.device).train()
    batch = 1 if settings.tiny else 4 if settings.quick else 8
    data = batch_of(batch, side)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, fused=settings.device == 'cuda')

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
    return Result(label, OK, f'{numbers["images_per_s"]:.1f} images/s, {describe(numbers)} for {batch} images', numbers)


def build(config: str, form: str) -> tuple[Any, int]:
    """Return the detector of a shipped config with random weights, and the side of its input."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.config.names import find_config
    cfg = load_config(find_config(config))
    init_default_scope('mmdet')
    cfg.model.backbone.update(attention=form, init_cfg=None)
    return MODELS.build(cfg.model), cfg.model.backbone.img_size


def batch_of(images: int, side: int) -> dict[str, list[Any]]:
    """Return random images with ten boxes and masks each, as the data loader returns them."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(images):
        corner = torch.rand(10, 2, generator=generator) * side * 0.6
        boxes = torch.cat([corner, corner + side * (0.1 + 0.3 * torch.rand(10, 2, generator=generator))], 1)
        masks = np.zeros((10, side, side), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side),
                                             batch_input_shape=(side, side), scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(10, dtype=torch.long),
                                           masks=BitmapMasks(masks, side, side))
        samples.append(sample)
    inputs = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(images)]
    return dict(inputs=inputs, data_samples=samples)
