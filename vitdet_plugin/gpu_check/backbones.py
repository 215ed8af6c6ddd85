"""Part ``backbones``: small backbones on the device against the CPU, forward and backward."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator

import torch
from torch import nn

from vitdet_plugin.backbones.base import Backbone, registered_backbones
from vitdet_plugin.gpu_check.operators import exact_float32, relative_error
from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, OK, Result, Settings, attempt
from vitdet_plugin.utils.registering import registering_modules

SIDE = 160  # of the images; 100 tokens of 16 pixels, more than one chunk of the mLSTM
#: Relative error in norm; of 16-bit types through several layers.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}


def run(settings: Settings) -> Iterator[Result]:
    """Yield one result for each backbone and dtype; 16-bit types under autocast."""
    for name in registering_modules('backbones'):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            yield Result(name.rpartition('.')[2], LEFT_OUT, f'{error.name} is not installed')
            continue
        for cls in registered_backbones():
            if cls.__module__ == module.__name__:
                yield from check(cls, settings)


def check(cls: type[Backbone], settings: Settings) -> Iterator[Result]:
    """Compare output and gradients of a small model of one class."""
    torch.manual_seed(settings.seed)
    model = cls(**copy.deepcopy(dict(cls.small))).double().eval()  # the same function in every type: no dropout
    for key, parameter in model.named_parameters():
        if key.endswith('offset.bias'):  # zero at first: pixels' centers, where the derivative is discontinuous
            nn.init.uniform_(parameter, 0.2, 0.8)
    image = torch.randn(1, 3, SIDE, SIDE, dtype=torch.float64)
    expected: dict[str, torch.Tensor] = {}
    for dtype in TOLERANCES:
        label = f'{cls.__name__}, {str(dtype).removeprefix("torch.")}'
        yield attempt(label, compare, label, model, image, expected, dtype, settings.device)


def compare(label: str, model: nn.Module, image: torch.Tensor, expected: dict[str, torch.Tensor], dtype: torch.dtype,
            device: str) -> Result:
    """Compare one dtype; ``expected`` is computed by the first call."""
    if not expected:
        expected.update(gradients(model, image, None, 'cpu'))
    with exact_float32():
        ours = gradients(copy.deepcopy(model).float().to(device), image.float().to(device), dtype, device)
    # single small parameters have large relative errors; all gradients are compared as one vector
    errors = {kind: relative_error(ours[kind], expected[kind]) for kind in expected}
    detail = ', '.join(f'{kind} {error:.1e}' for kind, error in errors.items())
    status = OK if all(error < TOLERANCES[dtype] for error in errors.values()) else FAILED
    return Result(label, status, f'relative error: {detail}', dict(errors=errors))


def gradients(model: nn.Module, image: torch.Tensor, dtype: torch.dtype | None, device: str) -> dict[str, torch.Tensor]:
    """Return the outputs and the gradients of all parameters, each as one vector."""
    model.zero_grad()
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype not in (None, torch.float32)):
        outs = model(image)
    outs = [out.double() for out in outs]
    generator = torch.Generator().manual_seed(1)
    loss = sum((out * torch.randn(out.shape, generator=generator, dtype=torch.float64).to(device)).mean()
               for out in outs)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return dict(outputs=torch.cat([out.detach().flatten() for out in outs]),
                gradients=torch.cat([grad.double().flatten() for grad in grads]))
