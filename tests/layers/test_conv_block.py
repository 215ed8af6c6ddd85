"""Residual convolution blocks."""

import pytest
import torch
from torch import nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.conv_block import ResidualConvBlock
from vitdet_plugin.layers.norm import LayerNorm2d

KERNELS = {'naive': [3], 'basic': [3, 3], 'bottleneck': [1, 3, 1]}


def randomize(block):
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    return block


@pytest.mark.parametrize('kind', KERNELS)
def test_is_the_identity_at_initialization(kind):
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(ResidualConvBlock(8, kind)(x), x)


@pytest.mark.parametrize('kind', KERNELS)
def test_convolutions_norms_and_gelu_in_turn(kind):
    block = randomize(ResidualConvBlock(8, kind))
    layers = dict(block.named_children())
    assert [layers[f'conv{i + 1}'].kernel_size[0] for i in range(len(KERNELS[kind]))] == KERNELS[kind]
    x = torch.randn(2, 8, 5, 7)
    out = x
    for i in range(1, len(KERNELS[kind]) + 1):
        out = layers[f'norm{i}'](layers[f'conv{i}'](out))
        if f'conv{i + 1}' in layers:
            out = nn.functional.gelu(out)
    torch.testing.assert_close(block(x), x + out)
    assert (block(x) - x).abs().max() > 0.1


def test_bottleneck_has_half_the_width():
    block = ResidualConvBlock(8, 'bottleneck')
    assert [block.conv1.out_channels, block.conv2.out_channels, block.conv3.out_channels] == [4, 4, 8]


@pytest.mark.parametrize('kind', KERNELS)
def test_init_weights_initializes_everything_again(kind):
    block = randomize(ResidualConvBlock(8, kind))
    block.init_weights()
    norms = [layer for layer in block.children() if isinstance(layer, LayerNorm2d)]
    assert all((norm.bias == 0).all() for norm in norms)
    assert [norm.weight.unique().tolist() for norm in norms] == [[1.0]] * (len(norms) - 1) + [[0.0]]
    x = torch.randn(1, 8, 3, 3)
    assert torch.equal(block(x), x)


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones():
    with pytest.raises(UserError, match="'wide' is unknown; choose one of naive, basic, bottleneck"):
        ResidualConvBlock(8, 'wide')
