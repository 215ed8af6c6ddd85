"""The compiled end of a Vision-LSTM layer against the same computation in float64, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from vitdet_plugin.layers.vil import ViLLayer
from vitdet_plugin.ops.gated_norm import can_gate, gated_norm
from vitdet_plugin.ops.native import STATUS

compiled = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operators: {STATUS["cpu"]}')
EPS = 1e-5


def reference(h, c, z, weight, bias, skip):
    normed = F.layer_norm(h.permute(1, 2, 0, 3), h.shape[-1:], eps=EPS).flatten(2)
    return (normed * weight + (0 if bias is None else bias) + skip * c) * F.silu(z)


def inputs(dtype, rows, heads, dim, has_bias):
    """z is half of wider rows, as in the layer; some gates are large."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    h, c, wide = random(heads, 2, rows, dim), random(2, rows, heads * dim), random(2, rows, 2 * heads * dim)
    with torch.no_grad():
        h.add_(3)
        wide[0, :1].mul_(100)
    parameters = [random(heads * dim).detach().to(torch.promote_types(dtype, torch.float32)) for _ in range(3)]
    parameters = [x.requires_grad_() for x in parameters]
    if not has_bias:
        parameters[1] = None
    return h, c, wide, parameters


@compiled
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-11), (torch.bfloat16, 2e-2),
                                                  (torch.float16, 3e-3)])
@pytest.mark.parametrize(('rows', 'heads', 'dim'), [(5, 4, 4), (70, 2, 20), (3, 4, 96)])
@pytest.mark.parametrize('has_bias', [True, False])
def test_values_and_gradients(dtype, tolerance, rows, heads, dim, has_bias):
    results = []
    for exact in (False, True):
        h, c, wide, (weight, bias, skip) = inputs(dtype, rows, heads, dim, has_bias)
        leaves = [x.detach().to(torch.float64 if exact else x.dtype).requires_grad_()
                  for x in (h, c, wide, weight, bias, skip) if x is not None]
        h, c, wide, weight, *bias, skip = leaves
        args = h, c, wide.chunk(2, -1)[1], weight, bias[0] if bias else None, skip
        out = reference(*args) if exact else gated_norm(*args, EPS)
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype).to(out.dtype)
        results.append([out, *torch.autograd.grad(out, leaves, direction)])
        assert exact or all(x.dtype == grad.dtype for x, grad in zip(leaves, results[0][1:], strict=True))
    for found, expected in zip(*results, strict=True):
        assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@compiled
def test_the_layer_uses_the_kernel_unless_it_is_traced(monkeypatch):
    from vitdet_plugin.layers import vil
    torch.manual_seed(0)
    layer = ViLLayer(16, heads=2, reverse=True, conv_kind='2d', conv_kernel_size=3, proj_bias=True, norm_bias=True)
    x = torch.randn(2, 12, 16)
    calls = []
    monkeypatch.setattr(vil, 'gated_norm', lambda *args: calls.append(args) or gated_norm(*args))
    out = layer(x, (3, 4))
    assert len(calls) == 1
    monkeypatch.setattr(vil, 'can_gate', lambda *args: False)
    torch.testing.assert_close(layer(x, (3, 4)), out, atol=1e-5, rtol=1e-5)
    assert len(calls) == 1


@compiled
def test_inputs_of_different_types_are_left_to_pytorch():
    h, c = torch.ones(1, 1, 2, 4), torch.ones(1, 2, 4)
    assert can_gate(h, c, c) and not can_gate(h, c.bfloat16(), c)
    with pytest.raises(ValueError, match='gated_norm: the shapes or types'):
        gated_norm(h, c.bfloat16(), c, torch.ones(4), None, torch.ones(4), EPS)


@compiled
def test_no_token():
    h, c, wide, (weight, bias, skip) = inputs(torch.float32, 0, 2, 4, True)
    out = gated_norm(h, c, wide[..., :8], weight, bias, skip, EPS)
    out.sum().backward()
    assert out.shape == c.shape and not weight.grad.any()


@compiled
def test_traced_shapes_are_those_of_the_result():
    args = (torch.randn(2, 1, 3, 4), torch.randn(1, 3, 8), torch.randn(1, 3, 8), torch.randn(8), None, torch.randn(8),
            EPS)
    checks = dict(test_utils=('test_schema', 'test_faketensor'))
    torch.library.opcheck(torch.ops.vitdet_plugin.gated_norm, args, **checks)
    torch.library.opcheck(torch.ops.vitdet_plugin.gated_norm_backward, (torch.randn(1, 3, 8), *args), **checks)
