import pytest
import torch

from vitdet_plugin.layers.block_diagonal import BlockDiagonalLinear
from vitdet_plugin.ops.block_diagonal import can_multiply, multiply_block_diagonal
from vitdet_plugin.ops.native import STATUS

compiled = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operators: {STATUS["cpu"]}')


def blocks_of(x, weight, bias, heads):
    out = torch.einsum('bsni,noi->bsno', x.unflatten(-1, (-1, 4)), weight).flatten(2)
    out = out if bias is None else out + bias
    return out.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3)


@compiled
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12),
                                                  (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize(('dim', 'heads'), [(16, 4), (80, 2), (384, 4)])
@pytest.mark.parametrize('has_bias', [True, False])
def test_values_for_part_of_wider_rows(dtype, tolerance, dim, heads, has_bias):
    x = torch.randn(2, 7, 2 * dim, dtype=torch.float64)[..., :dim].to(dtype)
    weight, bias = torch.randn(dim // 4, 4, 4), torch.randn(dim) if has_bias else None
    out = multiply_block_diagonal(x, weight, bias, heads)
    expected = blocks_of(x.double(), weight.double(), None if bias is None else bias.double(), heads)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)


@compiled
def test_rounding_to_bfloat16_is_to_nearest_even_and_keeps_special_values():
    x = torch.cat([torch.randn(800) * 10 ** torch.linspace(-30, 30, 800),
                   torch.tensor([0.0, -0.0, 3.3e38, -3.3e38, 1.00390625, 1.01171875, 1.0, 2.0])])[None, None].bfloat16()
    weight = torch.eye(4).expand(x.shape[-1] // 4, 4, 4) * 1.00390625
    out = multiply_block_diagonal(x, weight, None, 1).flatten()
    torch.testing.assert_close(out, (x.float() * 1.00390625).bfloat16().flatten(), rtol=0, atol=0)
    for special in (float('nan'), float('inf')):
        alone = multiply_block_diagonal(torch.full((1, 1, 16), special).bfloat16(), torch.eye(4).expand(4, 4, 4) + 1,
                                        None, 1)
        assert torch.equal(alone.isnan(), torch.full_like(alone, special != special, dtype=torch.bool))


@compiled
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12),
                                                  (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(('rows', 'dim', 'heads'), [(7, 16, 4), (300, 80, 2), (5, 384, 4)])
@pytest.mark.parametrize('has_bias', [True, False])
def test_gradients_for_part_of_wider_rows(dtype, tolerance, rows, dim, heads, has_bias):
    """With a gradient whose heads are interleaved in memory."""
    torch.manual_seed(0)
    wide = torch.randn(2, rows, 2 * dim, dtype=torch.float64).to(dtype).requires_grad_()
    wider = torch.promote_types(dtype, torch.float32)
    parameters = [torch.randn(dim // 4, 4, 4, dtype=wider), torch.randn(dim, dtype=wider)][:1 + has_bias]
    parameters = [x.requires_grad_() for x in parameters]
    direction = torch.randn(2, rows, heads, dim // heads, dtype=torch.float64).permute(2, 0, 1, 3)
    out = multiply_block_diagonal(wide[..., dim:], *parameters, *[None] * (not has_bias), heads)
    found = torch.autograd.grad(out, [wide, *parameters], direction.to(dtype))
    exact = [x.detach().double().requires_grad_() for x in (wide, *parameters)]
    expected = blocks_of(exact[0][..., dim:], *exact[1:], *[None] * (not has_bias), heads)
    for a, b, x in zip(found, torch.autograd.grad(expected, exact, direction.to(dtype).double()), [wide, *parameters]):
        assert a.dtype == x.dtype
        torch.testing.assert_close(a.double(), b, atol=tolerance * b.abs().max().item(), rtol=tolerance)


@compiled
def test_the_layer_uses_the_kernel_unless_it_is_traced(monkeypatch):
    from vitdet_plugin.layers import block_diagonal
    layer = BlockDiagonalLinear(32, 4)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 5, 32)
    assert can_multiply(x, layer.weight)
    out = layer(x)
    assert type(out.grad_fn).__name__.startswith('_BlockDiagonal')
    monkeypatch.setattr(block_diagonal, 'can_multiply', lambda *args: False)
    torch.testing.assert_close(layer(x), out, atol=1e-5, rtol=1e-5)


@compiled
def test_other_blocks_and_empty_inputs():
    layer = BlockDiagonalLinear(32, 4, block=8).requires_grad_(False)
    assert not can_multiply(torch.randn(1, 2, 32), layer.weight)
    assert multiply_block_diagonal(torch.randn(0, 5, 16), torch.randn(4, 4, 4), None, 2).shape == (2, 0, 5, 8)


@compiled
@pytest.mark.parametrize('weight', [torch.ones(3, 4, 4), torch.ones(4, 2, 2)])
def test_wrong_shapes_are_refused(weight):
    with pytest.raises(ValueError, match='block_diagonal: the shapes'):
        multiply_block_diagonal(torch.ones(1, 2, 16), weight, None, 4)


@compiled
def test_traced_shapes_are_those_of_the_result():
    args = torch.randn(2, 3, 16), torch.randn(4, 4, 4), torch.randn(16), 2
    checks = dict(test_utils=('test_schema', 'test_faketensor'))
    torch.library.opcheck(torch.ops.vitdet_plugin.block_diagonal, args, **checks)
    grad = torch.randn(2, 2, 3, 8)
    torch.library.opcheck(torch.ops.vitdet_plugin.block_diagonal_backward, (grad, *args[:2]), **checks)
