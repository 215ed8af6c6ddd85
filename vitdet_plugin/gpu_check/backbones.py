"""Part ``backbones``: small backbones on the device against the CPU, forward and backward."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from vitdet_plugin.gpu_check.operators import exact_float32, relative_error
from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, OK, Result, Settings, attempt

#: class -> module, side of the input, arguments
SMALL: dict[str, tuple[str, int, dict[str, Any]]] = {
    'ViTDet': ('vitdet', 96, dict(arch=dict(embed_dim=64, depth=2, num_heads=2), img_size=96, window_size=4,
                                  pretrain_img_size=64, global_block_indexes=[1], propagation='none',
                                  drop_path_rate=0.0)),
    'InternImage': ('internimage', 64, dict(arch=dict(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)))),
    'VisionLSTM': ('vision_lstm', 160, dict(arch=dict(dim=32, depth=2), img_size=160)),
    'VOLO': ('volo', 64, dict(arch=dict(layers=(1, 1, 1, 1), embed_dims=(32, 48, 48, 48), num_heads=(2, 4, 4, 4),
                                        mlp_ratios=(3, 3, 3, 2), stem_hidden_dim=4), img_size=(64, 64))),
    'ConvNeXtBackbone': ('convnext', 64, dict(arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))),
}
#: Relative error in norm; of 16-bit types through several layers.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}


def run(settings: Settings) -> Iterator[Result]:
    """Yield one result for each backbone and dtype; 16-bit types under autocast."""
    for name, (module, side, arguments) in SMALL.items():
        try:
            cls = getattr(importlib.import_module(f'vitdet_plugin.backbones.{module}'), name)
        except ModuleNotFoundError as error:
            yield Result(name, LEFT_OUT, f'{error.name} is not installed')
            continue
        yield from check(name, cls, side, arguments, settings)


def check(name: str, cls: Any, side: int, arguments: dict[str, Any], settings: Settings) -> Iterator[Result]:
    """Compare output and gradients of one backbone."""
    torch.manual_seed(settings.seed)
    model = cls(**arguments).double().eval()  # the same function in every type: no dropout
    for key, parameter in model.named_parameters():
        if key.endswith('offset.bias'):  # zero at first: pixels' centers, where the derivative is discontinuous
            nn.init.uniform_(parameter, 0.2, 0.8)
    image = torch.randn(1, 3, side, side, dtype=torch.float64)
    expected: dict[str, torch.Tensor] = {}
    for dtype in TOLERANCES:
        label = f'{name}, {str(dtype).removeprefix("torch.")}'
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
