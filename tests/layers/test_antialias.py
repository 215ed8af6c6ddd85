"""Antialiased interpolation by products: values and gradients of PyTorch's operator."""

import pytest
import torch
import torch.nn.functional as F

from vitdet_plugin.layers.antialias import resize_antialiased


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('hw', [(14, 14), (5, 23), (1, 40), (13, 3), (2, 2)])  # PyTorch is wrong for one column
def test_equals_pytorch(hw, dtype):
    maps = torch.randn(2, 3, 14, 9, dtype=dtype, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found, expected = resize_antialiased(maps, hw), F.interpolate(maps, hw, mode='bicubic', antialias=True)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
    weight = torch.randn(expected.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((out * weight).sum(), maps)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
