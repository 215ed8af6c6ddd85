"""Part ``time backbones``: ViTDet-B, L and H at 1024 x 1024 in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vitdet_plugin.gpu_check.measuring import describe, measure
from vitdet_plugin.gpu_check.results import LEFT_OUT, OK, Result, Settings, attempt

FORMS = ('auto', 'folded')


def run(settings: Settings) -> Iterator[Result]:
    """Yield images per second and memory of inference and training, for the chosen attention and the one before it."""
    try:
        from vitdet_plugin.backbones.vitdet import ViTDet
    except ModuleNotFoundError as error:
        yield Result('ViTDet', LEFT_OUT, f'{error.name} is not installed')
        return
    for arch in ('tiny',) if settings.tiny else ('base',) if settings.quick else ('base', 'large', 'huge'):
        for form in FORMS:
            arguments = dict(ViTDet.small) if arch == 'tiny' else dict(arch=arch, drop_path_rate=0.0)
            for training in (False, True):
                label = f'ViTDet {arch}, {"training" if training else "inference"}, attention={form}'
                yield attempt(label, timed, label, dict(arguments, attention=form), training, settings)


def timed(label: str, arguments: dict[str, Any], training: bool, settings: Settings) -> Result:
    """Time a backbone; training is forward and backward pass without an optimizer."""
    from vitdet_plugin.backbones.vitdet import ViTDet
    model = ViTDet(**arguments).to(settings.device).train(training)
    side = 96 if settings.tiny else 1024
    batch = 1 if settings.tiny else 4 if training else 8
    image = torch.randn(batch, 3, side, side, device=settings.device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(training), torch.autocast(settings.device, torch.bfloat16):
            out = model(image)[0]
        if training:
            out.float().mean().backward()

    numbers = measure(step, settings.device, 1.0, warm_up=1 if settings.tiny else 3)
    numbers['images_per_s'] = 1000 * batch / numbers['ms']
    return Result(label, OK, f'{numbers["images_per_s"]:.1f} images/s, {describe(numbers)} for {batch} images', numbers)
