"""Products by oneDNN's kernels are those of the layers; layers that do more than a product are called as usual."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitdet_plugin.layers.lora import LoRALinear
from vitdet_plugin.ops import flops
from vitdet_plugin.ops import linear as module
from vitdet_plugin.ops.linear import linear


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(24, 40)


@pytest.fixture
def products(monkeypatch):
    """The calls of oneDNN's product."""
    if torch.float32 not in module._dtypes():
        pytest.skip('this processor or this torch has no fast products of oneDNN')
    calls = []
    function = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, '_linear_pointwise', lambda *args: calls.append(args) or function(*args))
    return calls


@pytest.mark.parametrize('activation', [None, nn.GELU(), nn.GELU('tanh'), nn.ReLU(), nn.SiLU()])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(24,), (7, 24), (2, 3, 5, 24), (0, 24)])
@torch.no_grad()
def test_equals_the_layers(activation, bias, shape):
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40, bias=bias), torch.randn(shape)
    expected = layer(x) if activation is None else activation(layer(x))
    torch.testing.assert_close(linear(layer, x, activation), expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_permuted_input(layer):
    x = torch.randn(2, 24, 5, 3).permute(0, 2, 3, 1)
    torch.testing.assert_close(linear(layer, x), layer(x))


@pytest.mark.parametrize('autocast', [True, False])
@torch.no_grad()
def test_bfloat16(layer, autocast):
    x = torch.randn(9, 24)
    expected = F.gelu(layer(x))
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        out = linear(layer, x, nn.GELU()) if autocast else linear(layer.bfloat16(), x.bfloat16(), nn.GELU())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)


@torch.no_grad()
def test_float64_keeps_its_precision(layer):
    x = torch.randn(9, 24, dtype=torch.double)
    torch.testing.assert_close(linear(layer.double(), x), x @ layer.weight.T + layer.bias)


def test_gradients(layer):
    x = torch.randn(9, 24)
    grads = [torch.autograd.grad(F.gelu(layer(x)).sum(), layer.weight),
             torch.autograd.grad(linear(layer, x, nn.GELU()).sum(), layer.weight)]
    torch.testing.assert_close(*grads)


@torch.no_grad()
def test_one_product_with_the_activation(layer, products):
    linear(layer, torch.randn(9, 24), nn.GELU())
    linear(layer, torch.randn(9, 24), nn.SiLU())
    assert [args[3:] for args in products] == [('gelu', [], 'none'), ('none', [], '')]


@torch.no_grad()
def test_hooks_and_derived_classes_are_called(layer, products):
    x, seen = torch.randn(9, 24), []
    update = LoRALinear(layer, rank=2, alpha=4.0)
    nn.init.normal_(update.lora_b)
    torch.testing.assert_close(linear(update, x), update(x))
    activation = nn.ReLU()
    activation.register_forward_hook(lambda *args: seen.append('activation'))
    linear(layer, x, activation)
    layer.register_forward_pre_hook(lambda *args: seen.append('layer'))
    linear(layer, x)
    assert seen == ['activation', 'layer'] and len(products) == 1


@torch.no_grad()
def test_traces_and_exports_have_operators_of_every_runtime(layer):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.activation = layer, nn.GELU()

        def forward(self, x):
            return linear(self.layer, x, self.activation)

    x = torch.randn(9, 24)
    assert 'mkldnn' not in str(torch.jit.trace(Model(), x).graph)
    assert 'mkldnn' not in str(torch.export.export(Model(), (x,), strict=False).graph)


@torch.no_grad()
def test_operations_are_counted(layer):
    flops.register()
    counts = []
    for function in (lambda x: linear(layer, x, nn.GELU()), lambda x: F.gelu(layer(x))):
        with FlopCounterMode(display=False) as counter:
            function(torch.randn(2, 9, 24))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 18 * 24 * 40
