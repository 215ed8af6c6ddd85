"""Block-diagonal products against the whole matrix, for different block sizes."""

import pytest
import torch

from vitdet_plugin.layers.block_diagonal import BlockDiagonalLinear


@pytest.mark.parametrize(('dim', 'heads', 'bias'), [(32, 4, True), (96, 4, False), (384, 2, True), (416, 2, True)])
def test_equals_the_whole_matrix(dim, heads, bias):
    torch.manual_seed(0)
    layer = BlockDiagonalLinear(dim, heads, bias=bias).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    assert dim // heads % layer.width == 0 and layer.width % 4 == 0 and layer.width <= 96
    matrix = torch.block_diag(*layer.weight)
    x = torch.randn(2, 5, dim, dtype=torch.float64)
    expected = torch.nn.functional.linear(x, matrix, layer.bias)
    out = layer(x)
    assert out.shape == (heads, 2, 5, dim // heads)
    torch.testing.assert_close(out.permute(1, 2, 0, 3).flatten(2), expected)


def test_every_block_learns():
    layer = BlockDiagonalLinear(24, 2)
    torch.nn.init.normal_(layer.weight)
    layer(torch.randn(1, 7, 24)).square().sum().backward()
    assert layer.weight.grad.flatten(1).any(1).all() and layer.bias.grad.all()
