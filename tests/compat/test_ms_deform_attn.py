import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

from tests.compat import oracles

SHAPES = [(4, 3), (2, 2)]


def operands(seed):
    """One image, two levels, two heads of three channels, three queries of two points; all float64."""
    random = np.random.default_rng(seed)
    value = random.normal(size=(1, sum(h * w for h, w in SHAPES), 2, 3))
    weights = random.dirichlet(np.ones(4), (1, 3, 2)).reshape(1, 3, 2, 2, 2)
    return value, random.uniform(-0.2, 1.2, (1, 3, 2, 2, 2, 2)), weights


def attend(value, locations, weights):
    """The function that mmcv calls for tensors on an accelerator."""
    starts = torch.tensor([0, 12])
    return MultiScaleDeformableAttnFunction.apply(value, torch.tensor(SHAPES), starts, locations, weights, 64)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_forward(seed):
    value, locations, weights = operands(seed)
    out = attend(*map(torch.from_numpy, (value, locations, weights)))
    np.testing.assert_allclose(out, oracles.ms_deform_attn(value, SHAPES, locations, weights), atol=1e-9)


@settings(max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_backward(seed):
    arrays = operands(seed)
    inputs = [torch.from_numpy(a).requires_grad_() for a in arrays]
    out = attend(*inputs)
    grad_output = np.random.default_rng(seed).normal(size=out.shape)
    out.backward(torch.from_numpy(grad_output))
    for place, tensor in enumerate(inputs):
        def function(array, place=place):
            value, locations, weights = (*arrays[:place], array, *arrays[place + 1:])
            return oracles.ms_deform_attn(value, SHAPES, locations, weights)

        numeric = oracles.numeric_gradient(function, arrays[place], grad_output, step=1e-6)
        np.testing.assert_allclose(tensor.grad, numeric, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_dtype(dtype):
    value, locations, weights = (torch.from_numpy(a).to(dtype) for a in operands(3))
    value.requires_grad_()
    out = attend(value, locations, weights)
    out.float().sum().backward()
    wide = attend(value.detach().float(), locations.float(), weights.float())
    assert out.dtype == value.grad.dtype == dtype
    torch.testing.assert_close(out, wide.to(dtype))
