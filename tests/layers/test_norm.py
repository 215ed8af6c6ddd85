"""LayerNorm2d against nn.LayerNorm."""

import torch
from mmcv.cnn import build_norm_layer
from torch import nn

from vitdet_plugin.layers.norm import LayerNorm2d


def pair(channels=6, eps=1e-6):
    ours, reference = LayerNorm2d(channels, eps), nn.LayerNorm(channels, eps)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(channels))
        ours.bias.copy_(torch.randn(channels))
    reference.load_state_dict(ours.state_dict())
    return ours, reference


def test_equals_layer_norm_over_the_channels_forward_and_gradient():
    ours, reference = pair()
    x = torch.randn(2, 6, 4, 5, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    cotangent = torch.randn(2, 6, 4, 5)
    out, expected = ours(x), reference(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(out, expected)
    out.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.weight.grad, reference.weight.grad)
    torch.testing.assert_close(ours.bias.grad, reference.bias.grad)


def test_eps_is_used():
    x = torch.randn(1, 6, 2, 2) * 1e-3
    assert (LayerNorm2d(6, 1e-6)(x) - LayerNorm2d(6, 1e-5)(x)).abs().max() > 0.1


def test_output_is_channels_last_whatever_the_input():
    x = torch.randn(2, 6, 4, 5)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        assert LayerNorm2d(6)(given).is_contiguous(memory_format=torch.channels_last)


def test_state_dict_names_and_no_torch_norm():
    """Same names as nn.LayerNorm, but not a subclass: detectron2's weight decay rule distinguishes them."""
    norm = LayerNorm2d(4)
    assert set(norm.state_dict()) == {'weight', 'bias'}
    assert not isinstance(norm, nn.LayerNorm)


def test_built_from_a_config():
    name, norm = build_norm_layer(dict(type='LayerNorm2d', eps=1e-3), 8)
    assert name == 'ln' and isinstance(norm, LayerNorm2d) and norm.eps == 1e-3 and norm.num_channels == 8


def test_bfloat16():
    norm = LayerNorm2d(6).bfloat16()
    x = torch.randn(1, 6, 3, 3)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x.bfloat16()).float(), norm.float()(x), atol=0.05, rtol=0.05)
