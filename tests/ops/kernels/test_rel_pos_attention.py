"""Attention with relative position bias by Triton against the formula in float64."""

import pytest
import torch

from tests.devices import requires_triton
from tests.ops.kernels.comparison import assert_same, gradients
from vitdet_plugin.errors import UserError
from vitdet_plugin.ops.rel_pos_attention import rel_pos_attention
from vitdet_plugin.ops.rel_pos_attention.reference import dense
from vitdet_plugin.ops.rel_pos_attention.triton import key_tile

pytestmark = requires_triton
SCALE = 0.3


def draw(device, groups, heads, queries, height, width, dim, dtype=torch.float32):
    generator = torch.Generator().manual_seed(queries + height)
    shapes = [(queries, dim), (height * width, dim), (height * width, dim), (queries, height), (queries, width)]
    return [torch.randn(groups, heads, *shape, generator=generator).to(device, dtype) for shape in shapes]


def triton(*tensors):
    return rel_pos_attention(*tensors, SCALE, 'triton')


def reference(*tensors):
    return dense(*tensors, SCALE)


@pytest.mark.parametrize('shape', [
    (2, 2, 14, 7, 2, 16),    # tiles of several rows of the grid
    (1, 3, 37, 5, 6, 20),    # a head size that is not a power of 2
    (1, 1, 70, 3, 70, 8),    # a grid wider than a tile
    (2, 1, 1, 2, 2, 80)], ids=str)
def test_output_and_gradients(device, shape):
    assert_same(triton, reference, draw(device, *shape))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    assert_same(triton, reference, draw(device, 1, 2, 70, 14, 14, 64, dtype))


def test_tensors_of_other_layouts(device):
    """Views of one product, as the layers pass them, and a tensor whose last dimension is not contiguous."""
    q, k, v, rel_h, rel_w = draw(device, 2, 3, 12, 4, 3, 16)
    packed = torch.stack([q, k, v]).permute(1, 3, 0, 2, 4).contiguous()  # (G, Q, 3, N, d)
    views = packed.permute(2, 0, 3, 1, 4).unbind()
    rel_h = rel_h.transpose(2, 3).contiguous().transpose(2, 3)
    assert not views[0].is_contiguous() and rel_h.stride(-1) != 1
    assert_same(triton, reference, [*views, rel_h, rel_w])


def test_large_scores_do_not_overflow(device):
    tensors = [x * 40 for x in draw(device, 1, 2, 12, 3, 4, 8)]
    torch.testing.assert_close(triton(*tensors), reference(*(x.double() for x in tensors)).float(), atol=0.2, rtol=1e-2)


def test_an_empty_batch(device):
    found = gradients(triton, draw(device, 0, 2, 6, 2, 3, 8), torch.empty(0, 2, 6, 8))
    assert [x.shape[0] for x in found] == [0] * 6


def test_autocast_and_mixed_types(device):
    """Each gradient has the dtype of its input, through the layer's call and through the operator alone."""
    tensors = draw(device, 1, 2, 12, 3, 4, 16)
    mixed = [x.bfloat16().requires_grad_() for x in tensors[:3]] + [x.clone().requires_grad_() for x in tensors[3:]]
    with torch.autocast(device, torch.bfloat16):
        out = triton(*mixed)
        direct = torch.ops.vitdet_plugin.rel_pos_attention_triton(*mixed, SCALE)[0]
        out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and direct.dtype == torch.float32
    assert (direct - reference(*tensors)).abs().max() < 0.06
    assert [x.grad.dtype for x in mixed] == [x.dtype for x in mixed]


def test_operator_registration(device):
    tensors = [x.requires_grad_() for x in draw(device, 1, 2, 5, 2, 3, 16)]
    torch.library.opcheck(torch.ops.vitdet_plugin.rel_pos_attention_triton.default, (*tensors, SCALE))


def test_a_compiled_graph_contains_it(device):
    tensors = draw(device, 1, 2, 6, 2, 3, 16)
    compiled = torch.compile(triton, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(*tensors), triton(*tensors))


def test_what_it_cannot_serve_is_an_error(device):
    with pytest.raises(UserError, match="'triton' cannot serve this call: does not serve torch.float64"):
        triton(*draw(device, 1, 1, 4, 2, 2, 8, torch.float64))
    with pytest.raises(UserError, match='serves head sizes up to 256'):
        triton(*draw(device, 1, 1, 4, 2, 2, 257))


@pytest.mark.parametrize(('width', 'keys', 'expected'), [
    (64, 64, (1, 64)), (14, 64, (4, 16)), (14, 32, (2, 16)), (76, 64, (4, 16)), (100, 32, (2, 16)), (7, 64, (4, 16))])
def test_tiles_leave_few_columns_empty(width, keys, expected):
    assert tuple(key_tile(width, keys).values()) == expected
