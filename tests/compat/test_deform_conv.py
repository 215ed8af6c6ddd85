import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d, modulated_deform_conv2d

from tests.compat import oracles

GEOMETRY = dict(seed=st.integers(0, 10_000), stride=st.sampled_from([1, 2]), padding=st.sampled_from([0, 1]),
                dilation=st.sampled_from([1, 2]), groups=st.sampled_from([1, 2]), deform_groups=st.sampled_from([1, 2]))


def operands(seed, stride, padding, dilation, groups, deform_groups, kernel=(3, 2)):
    """Two images of four channels, 5 x 6, with offsets of a few cells; all float64."""
    random = np.random.default_rng(seed)
    kh, kw = kernel
    oh = (5 + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    ow = (6 + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    cells = deform_groups * kh * kw
    # offsets keep away from whole numbers, where the interpolation has a kink
    offset = random.integers(-2, 3, (2, 2 * cells, oh, ow)) + random.uniform(0.1, 0.9, (2, 2 * cells, oh, ow))
    return (random.normal(size=(2, 4, 5, 6)), offset, random.uniform(size=(2, cells, oh, ow)),
            random.normal(size=(2, 4 // groups, kh, kw)), random.normal(size=2))


def tensors(*arrays):
    return [torch.from_numpy(a).requires_grad_() for a in arrays]


@settings(max_examples=25)
@given(**GEOMETRY)
def test_version_1(seed, **geometry):
    x, offset, _, weight, _ = operands(seed, **geometry)
    out = deform_conv2d(*tensors(x, offset, weight), *geometry.values())
    np.testing.assert_allclose(out.detach(), oracles.deform_conv(x, weight, offset, None, None, **geometry), atol=1e-9)


@settings(max_examples=25)
@given(**GEOMETRY, with_bias=st.booleans())
def test_version_2(seed, with_bias, **geometry):
    x, offset, mask, weight, bias = operands(seed, **geometry)
    bias = bias if with_bias else None
    out = modulated_deform_conv2d(*tensors(x, offset, mask, weight), torch.from_numpy(bias) if with_bias else None,
                                  *geometry.values())
    np.testing.assert_allclose(out.detach(), oracles.deform_conv(x, weight, offset, mask, bias, **geometry), atol=1e-9)


@pytest.mark.parametrize(('version', 'which'), [*((1, name) for name in ('x', 'offset', 'weight')),
                                                *((2, name) for name in ('x', 'offset', 'mask', 'weight', 'bias'))])
def test_gradients(version, which):
    geometry = dict(stride=2, padding=1, dilation=1, groups=2, deform_groups=2)
    names = ('x', 'offset', 'mask', 'weight', 'bias')
    arrays = dict(zip(names, operands(5, **geometry)))
    inputs = dict(zip(names, tensors(*arrays.values())))
    if version == 1:
        arrays.update(mask=None, bias=None)
        out = deform_conv2d(inputs['x'], inputs['offset'], inputs['weight'], *geometry.values())
    else:
        out = modulated_deform_conv2d(*inputs.values(), *geometry.values())
    grad_output = np.random.default_rng(6).normal(size=out.shape)
    out.backward(torch.from_numpy(grad_output))

    def function(array):
        a = {**arrays, which: array}
        return oracles.deform_conv(a['x'], a['weight'], a['offset'], a['mask'], a['bias'], **geometry)

    few = _some_entries(arrays[which])
    numeric = _numeric(function, arrays[which], grad_output, few)
    np.testing.assert_allclose([inputs[which].grad[i].item() for i in few], numeric, atol=1e-6)


def _some_entries(array, count=12):
    random = np.random.default_rng(0)
    return [tuple(int(random.integers(n)) for n in array.shape) for _ in range(count)]


def _numeric(function, array, grad_output, entries, step=1e-5):
    result = []
    for entry in entries:
        high, low = array.copy(), array.copy()
        high[entry] += step
        low[entry] -= step
        result.append(((function(high) - function(low)) * grad_output).sum() / (2 * step))
    return result


@pytest.mark.parametrize('layer', [DeformConv2dPack, ModulatedDeformConv2dPack])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_layers_train(layer, dtype):
    # with zero offsets both versions are ordinary convolutions (times the mask's sigmoid(0) = 1/2)
    torch.manual_seed(0)
    module = layer(4, 3, 3, padding=1, bias=False).to(dtype)
    x = torch.randn(2, 4, 6, 6, dtype=dtype, requires_grad=True)
    out = module(x)
    out.sum().backward()
    plain = torch.nn.functional.conv2d(x.detach().float(), module.weight.detach().float(), padding=1)
    factor = 0.5 if layer is ModulatedDeformConv2dPack else 1
    torch.testing.assert_close(out.float(), plain * factor, atol=1e-5 if dtype == torch.float32 else 3e-2, rtol=2e-2)
    assert all(torch.isfinite(p.grad).all() for p in (x, *module.parameters()))
