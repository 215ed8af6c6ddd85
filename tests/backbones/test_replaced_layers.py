"""Layers with hooks, wrapped layers and quantized layers in every registered backbone take effect."""

import copy

import pytest
import torch
from torch import nn

from tests.backbones.registered import BACKBONES, image, tiny

every_backbone = pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
grad_or_not = pytest.mark.parametrize('with_grad', [True, False])


def layers(model, kinds=(nn.Linear, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d)):
    """Layers that the backbone calls; timm's attention of EVA multiplies by the weight of ``qkv`` itself."""
    return {name: module for name, module in model.named_modules()
            if isinstance(module, kinds) and not (name.startswith('net.') and name.endswith('.qkv'))}


def close(found, expected, tolerance=1e-4):
    return all((a - b).abs().max() <= tolerance * b.abs().max() for a, b in zip(found, expected, strict=True))


@every_backbone
@grad_or_not
def test_hooks_are_called_and_change_the_result(cls, with_grad):
    model = tiny(cls).eval()
    x = image(model, 2, 3)
    with torch.set_grad_enabled(with_grad):
        expected = model(x)
        called = {}
        handles = [module.register_forward_hook(lambda module, args, out, name=name: called.update({name: 1}))
                   for name, module in layers(model).items()]
        assert close(model(x), expected)
        assert set(called) == set(layers(model))
        for handle in handles:
            handle.remove()
        for name, module in layers(model, nn.Linear).items():
            handle = module.register_forward_hook(lambda module, args, out: out * torch.linspace(1, 2, out.shape[-1]))
            assert not close(model(x), expected), name
            handle.remove()


@every_backbone
def test_backward_hooks_are_called(cls):
    model = tiny(cls).train()
    called = set()
    for name, module in layers(model, nn.Linear).items():
        module.register_full_backward_hook(lambda module, found, given, name=name: called.add(name))
    sum(out.square().sum() for out in model(image(model))).backward()
    assert called == set(layers(model, nn.Linear))


class Adapter(nn.Module):
    """Adds a product of low rank, as the wrappers of other packages; has no ``weight``."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(2, base.in_features))
        self.b = nn.Parameter(0.1 * torch.randn(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T

    def merged(self):
        merged = copy.deepcopy(self.base)
        merged.weight.data += self.b @ self.a
        return merged


def replace(model, name, module):
    parent, _, last = name.rpartition('.')
    setattr(model.get_submodule(parent), last, module)


@every_backbone
def test_wrapped_layers_equal_merged_ones_and_are_trained(cls):
    model = tiny(cls).eval()
    adapters = {name: Adapter(module) for name, module in layers(model, nn.Linear).items()}
    merged = copy.deepcopy(model)
    for name, adapter in adapters.items():
        replace(model, name, adapter)
        replace(merged, name, adapter.merged())
    x = image(model, 2, 3)
    expected = merged(x)
    assert close(model(x), expected)
    with torch.no_grad():
        assert close(model(x), expected)
    sum(out.square().sum() for out in model(x)).backward()
    assert [name for name, adapter in adapters.items() if adapter.b.grad is None or not adapter.b.grad.any()] == []


@every_backbone
@grad_or_not
@pytest.mark.filterwarnings('ignore')
def test_dynamic_quantization(cls, with_grad):
    model = tiny(cls).eval()
    for name, module in layers(model, nn.Linear).items():
        replace(model, name, torch.ao.quantization.quantize_dynamic(nn.Sequential(module), {nn.Linear})[0])
    original = tiny(cls).eval()
    with torch.set_grad_enabled(with_grad):
        for rows, columns in ((2, 2), (2, 3)):
            x = image(model, rows, columns)
            assert close(model(x), original(x), 0.2)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_gates_with_hooks_in_other_dtypes(dtype):
    from vitdet_plugin.backbones.vision_lstm import VisionLSTM
    model = tiny(VisionLSTM).to(dtype).eval()
    x = image(model).to(dtype)
    expected = model(x)
    for name, module in layers(model, nn.Linear).items():
        if name.endswith('gate'):
            module.register_forward_hook(lambda *args: None)
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-9
    assert close(model(x), expected, tolerance)
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert close(model(x), expected, tolerance)
