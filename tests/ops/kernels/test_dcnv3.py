"""DCNv3 by Triton against the PyTorch form in float64."""

import pytest
import torch

from ops_dcnv3 import dcnv3
from tests.devices import requires_triton
from tests.ops.kernels.comparison import assert_same, gradients
from tests.ops_dcnv3.oracle import call, geometry, random_inputs

pytestmark = requires_triton


def functions(geo):
    """Return the operator by Triton and the reference, as functions of the three tensors."""
    return (lambda *tensors: call(dcnv3, tensors, geo, backend='triton'),
            lambda *tensors: call(dcnv3, tensors, geo, backend='pytorch'))


def inputs(geo, device, dtype=torch.float32, **options):
    return [x.to(device, dtype) for x in random_inputs(geo, **options)]


@pytest.mark.parametrize('options', [
    dict(), dict(stride=(2, 1), pad=(0, 2), group_channels=3), dict(kernel=(3, 5), dilation=(2, 1), pad=(2, 1)),
    dict(kernel=(5, 5), pad=(2, 2), offset_scale=2.0, group=1), dict(remove_center=True, offset_scale=0.5, group=3)],
    ids=str)
def test_output_and_gradients(device, options):
    geo = geometry(**options)
    assert_same(*functions(geo), inputs(geo, device), 1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    geo = geometry(group_channels=16)
    assert_same(*functions(geo), inputs(geo, device, dtype, batch=1, size=(4, 5)))


def test_tensors_of_other_layouts(device):
    geo = geometry()
    tensors = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(geo, device)]
    assert not any(x.is_contiguous() for x in tensors)
    assert_same(*functions(geo), tensors, 1e-4)


def test_an_empty_batch(device):
    geo = geometry()
    found = gradients(functions(geo)[0], inputs(geo, device, batch=0), torch.empty(0, 7, 6, 8))
    assert [x.shape[0] for x in found] == [0] * 4


def test_positions_that_are_not_numbers_and_far_outside(device):
    """NaN results in NaN, and what is outside the input is zero, as in the other backends."""
    geo = geometry(group=1)
    x, offset, mask = inputs(geo, device, batch=1)
    offset[0, 0, 0] = 0.0
    offset[0, 0, 0, 8] = float('nan')  # x of the center tap, which is inside the input
    offset[0, 1:] = 1e9
    out = call(dcnv3, (x, offset, mask), geo, backend='triton')
    assert out[0, 0, 0].isnan().all() and not out[0, 0, 1:].isnan().any() and (out[0, 1:] == 0).all()


def test_deterministic_gradients(device):
    """Sums of integers: the same gradient, NaN where the incoming gradient is not finite."""
    geo = geometry()
    triton, reference = functions(geo)
    tensors = inputs(geo, device, batch=1, size=(3, 4))
    torch.use_deterministic_algorithms(True)
    try:
        assert_same(triton, reference, tensors, 1e-4)
        cotangent = torch.ones(1, 3, 4, 8)
        first, second = (gradients(triton, tensors, cotangent) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second))
        assert gradients(triton, tensors, cotangent * 0)[1].abs().max() == 0
        assert gradients(triton, tensors, cotangent * float('nan'))[1].isnan().any()
    finally:
        torch.use_deterministic_algorithms(False)


def test_autocast_takes_the_widest_type(device):
    geo = geometry()
    x, offset, mask = inputs(geo, device)
    with torch.autocast(device, torch.bfloat16):
        out = call(dcnv3, (x.bfloat16(), offset, mask), geo, backend='triton')
    torch.testing.assert_close(out, call(dcnv3, (x.bfloat16().float(), offset, mask), geo, backend='pytorch'),
                               atol=1e-4, rtol=1e-4)


def test_operator_registration(device):
    geo = geometry(group=1)
    tensors = [x.requires_grad_() for x in inputs(geo, device, batch=1, size=(3, 3))]
    arguments = ([3, 3], [1, 1], [1, 1], [1, 1], 1, 4, 1.0, False)
    torch.library.opcheck(torch.ops.vitdet_plugin.dcnv3_triton.default, (*tensors, *arguments),
                          test_utils=('test_schema', 'test_autograd_registration', 'test_faketensor'))
