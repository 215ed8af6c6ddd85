"""Multi-scale deformable attention by Triton against the PyTorch form in float64."""

import pytest
import torch

from tests.devices import requires_triton
from tests.ops.kernels.comparison import assert_same, gradients
from vitdet_plugin.ops.ms_deform_attn import ms_deform_attn
from vitdet_plugin.ops.ms_deform_attn.triton import _levels

pytestmark = requires_triton


def inputs(device, sizes=((4, 3), (2, 5)), batch=2, queries=19, heads=2, points=2, channels=4, dtype=torch.float32):
    """Sizes, then value, locations and weights; locations between the pixels, some outside the maps."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor(sizes)
    span = shapes.flip(1)[:, None]
    shape = batch, queries, heads, len(sizes), points
    value = torch.randn(batch, int(shapes.prod(1).sum()), heads, channels, generator=generator)
    cell = (torch.rand(*shape, 2, generator=generator) * (span + 3)).floor() - 1.5
    locations = (cell + 0.2 + 0.6 * torch.rand(cell.shape, generator=generator)) / span.clamp(min=1)
    weights = torch.rand(shape, generator=generator)
    return shapes, [each.to(device, dtype) for each in (value, locations, weights)]


def functions(sizes):
    """Return the operator by Triton and the reference, as functions of the three tensors."""
    return tuple(lambda value, locations, weights, backend=backend: ms_deform_attn(value, sizes, locations, weights,
                                                                                  backend=backend)
                 for backend in ('triton', 'pytorch'))


@pytest.mark.parametrize('options', [
    dict(), dict(sizes=[(1, 1)], heads=1, points=1, channels=1), dict(channels=37, queries=1, batch=1),
    dict(sizes=[(5, 4), (0, 3), (1, 7)], points=2, heads=3, channels=16)], ids=str)
def test_output_and_gradients(device, options):
    sizes, tensors = inputs(device, **options)
    assert_same(*functions(sizes), tensors, 1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    sizes, tensors = inputs(device, sizes=[(4, 4), (2, 2)], dtype=torch.float32)
    tensors = [tensors[0], (tensors[1] * 32).floor() / 32 + 1 / 64, tensors[2]]  # exact in both types, off the pixels
    assert_same(*functions(sizes), [each.to(dtype) for each in tensors])


def test_tensors_of_other_layouts(device):
    sizes, tensors = inputs(device)
    strided = [each.transpose(0, 1).contiguous().transpose(0, 1) for each in tensors]
    assert not any(each.is_contiguous() for each in strided)
    assert_same(*functions(sizes.tolist()), strided, 1e-4)


@pytest.mark.parametrize('options', [dict(batch=0), dict(queries=0)])
def test_nothing_to_compute(device, options):
    sizes, tensors = inputs(device, **options)
    shape = tensors[1].shape[0], tensors[1].shape[1], 8
    found = gradients(functions(sizes)[0], tensors, torch.empty(shape))
    assert found[0].shape == shape
    assert not any(each.any() for each in found)


def test_locations_that_are_not_finite_and_far_outside(device):
    """As grid_sample on a CPU: NaN in their outputs, but in no gradient of the value; zero far outside."""
    sizes, tensors = inputs(device)
    for query, number in enumerate((float('nan'), float('inf'), -float('inf'))):
        tensors[1][0, query, 0, 1, 1, query % 2] = number
    tensors[1][1, :3] = 1e8
    tensors[2][1, 5, 0, 0, 0] = float('nan')
    triton, reference = functions(sizes)
    found = gradients(triton, tensors, torch.ones(2, 19, 8))
    expected = gradients(reference, [each.cpu() for each in tensors], torch.ones(2, 19, 8))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-3, rtol=1e-3, equal_nan=True)
    assert found[0][0, :3, :4].isnan().all() and (found[0][1, :3] == 0).all()


def test_deterministic_gradients(device):
    """Sums of integers: the same gradient, NaN where the incoming gradient is not finite."""
    sizes, tensors = inputs(device)
    triton, reference = functions(sizes)
    torch.use_deterministic_algorithms(True)
    try:
        assert_same(triton, reference, tensors, 1e-4)
        cotangent = torch.ones(2, 19, 8)
        first, second = (gradients(triton, tensors, cotangent) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second))
        assert gradients(triton, tensors, cotangent * float('nan'))[1].isnan().any()
    finally:
        torch.use_deterministic_algorithms(False)


def test_autocast_computes_in_float32(device):
    sizes, (value, locations, weights) = inputs(device)
    with torch.autocast(device, torch.bfloat16):
        out = ms_deform_attn(value.bfloat16(), sizes, locations, weights, backend='triton')
    expected = ms_deform_attn(value.bfloat16().float(), sizes, locations, weights, backend='pytorch')
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_operator_registration(device):
    sizes, tensors = inputs(device, sizes=[(3, 3)], queries=2, batch=1)
    value, locations, weights = (each.requires_grad_() for each in tensors)
    torch.library.opcheck(torch.ops.vitdet_plugin.ms_deform_attn_triton.default,
                          (value, locations, weights, _levels(sizes, device)),
                          test_utils=('test_schema', 'test_autograd_registration', 'test_faketensor'))
