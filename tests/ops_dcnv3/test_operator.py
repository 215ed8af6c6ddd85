"""The operator against torchvision's deformable convolution, on every available backend."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_dcnv3 import dcnv3
from tests.ops_dcnv3.oracle import BACKENDS, call, geometry, random_inputs, torchvision_dcnv3

CASES = dict(
    plain={}, stride=dict(stride=(2, 2)), dilation=dict(dilation=(2, 2), pad=(2, 2)),
    oblong=dict(kernel=(3, 5), pad=(0, 3), stride=(1, 2), dilation=(2, 1)), even=dict(kernel=(2, 2)),
    scaled=dict(offset_scale=2.0), shrunk=dict(kernel=(5, 5), pad=(2, 2), offset_scale=0.5),
    no_center=dict(remove_center=True), no_center_5=dict(kernel=(5, 5), pad=(2, 2), remove_center=True),
    one=dict(kernel=(1, 1), pad=(0, 0)), wide_pad=dict(pad=(4, 3)),
    **{f'width_{c}': dict(group=3, group_channels=c) for c in (1, 3, 8, 16, 32, 37)})


def with_gradients(op, tensors):
    """Output and the three gradients for a fixed direction."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = op(tensors)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [out, *torch.autograd.grad(out, tensors, direction.to(out.dtype))]


def assert_equal(ours, expected, tolerance=1e-12):
    for name, a, b in zip(['out', 'input', 'offset', 'mask'], ours, expected):
        scale = max(b.abs().max().item(), 1.0) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b.double(), atol=tolerance * scale, rtol=0,
                                   msg=lambda m, n=name: f'{n}: {m}')


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())
def test_equals_torchvision(case, backend):
    geo = geometry(**case)
    tensors = random_inputs(geo)
    assert_equal(with_gradients(lambda t: call(dcnv3, t, geo, backend=backend), tensors),
                 with_gradients(lambda t: torchvision_dcnv3(*t, geo), tensors))


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
small = st.tuples(st.integers(1, 2), st.integers(1, 3))


@pytest.mark.parametrize('backend', BACKENDS)
@settings(max_examples=25, derandomize=True)
@given(kernel=pairs, stride=small, dilation=small, pad=st.tuples(st.integers(0, 4), st.integers(0, 4)),
       group=st.integers(1, 3), group_channels=st.sampled_from([1, 2, 5, 8, 16, 20]), batch=st.integers(1, 3),
       offset_scale=st.sampled_from([0.5, 1.0, 2.0, -1.0]), size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_random_shapes(backend, size, batch, **kwargs):
    geo = geometry(**kwargs)
    if min(geo.out_size(*size)) < 1:
        return
    tensors = random_inputs(geo, batch, size)
    assert_equal(with_gradients(lambda t: call(dcnv3, t, geo, backend=backend), tensors),
                 with_gradients(lambda t: torchvision_dcnv3(*t, geo), tensors))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 2e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_narrow_types(dtype, tolerance, backend):
    """Against float64 on the same (rounded) inputs: only the results are rounded, not intermediate values."""
    geo = geometry(group_channels=16, stride=(1, 1))
    tensors = random_inputs(geo, size=(40, 3), dtype=dtype)
    ours = with_gradients(lambda t: call(dcnv3, t, geo, backend=backend), tensors)
    assert all(t.dtype == dtype for t in ours)
    assert_equal(ours, with_gradients(lambda t: torchvision_dcnv3(*t, geo), [t.double() for t in tensors]), tolerance)


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradcheck(backend):
    geo = geometry(kernel=(2, 2), group=1, group_channels=3, stride=(1, 2), offset_scale=1.5)
    tensors = [t.requires_grad_() for t in random_inputs(geo, 1, (3, 5))]
    assert torch.autograd.gradcheck(lambda *t: call(dcnv3, t, geo, backend=backend), tensors)


@pytest.mark.parametrize('backend', BACKENDS)
def test_strided_tensors_and_gradients(backend):
    geo = geometry(group_channels=8)
    tensors = random_inputs(geo)

    def run(tensors, direction):
        tensors = [t.requires_grad_() for t in tensors]
        out = call(dcnv3, tensors, geo, backend=backend)
        return [out, *torch.autograd.grad(out, tensors, direction)]

    direction = torch.randn(2, 7, 6, 16, dtype=torch.float64)
    strided = [torch.stack([t, t], -1)[..., 0].transpose(1, 2).contiguous().transpose(1, 2).detach() for t in tensors]
    assert not any(t.is_contiguous() for t in strided)
    assert_equal(run(strided, direction.transpose(1, 2).contiguous().transpose(1, 2)), run(tensors, direction), 1e-14)
    expanded = torch.ones((), dtype=torch.float64).expand(2, 7, 6, 16)
    assert_equal(run(tensors, expanded), run(tensors, expanded.contiguous()), 1e-14)


@pytest.mark.parametrize('backend', BACKENDS)
def test_empty_batch(backend):
    geo = geometry()
    tensors = [t[:0].clone().requires_grad_() for t in random_inputs(geo)]
    out = call(dcnv3, tensors, geo, backend=backend)
    assert out.shape == (0, 7, 6, 8)
    assert [g.shape for g in torch.autograd.grad(out.sum(), tensors)] == [t.shape for t in tensors]


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_reaches_only_the_outputs_that_sample_it(backend):
    """Row 0 is NaN; only the first output rows sample it, and samples outside are zeros."""
    geo = geometry(pad=(3, 3))
    x, offset, mask = random_inputs(geo, spread=0)
    clean = call(dcnv3, (x, offset, mask), geo, backend=backend)
    x[:, 0] = float('nan')
    positions = offset.reshape(2, 11, 10, 2, 9, 2)[..., 1].amin((3, 4)) + torch.arange(11)[:, None] - 3
    out = call(dcnv3, (x, offset, mask), geo, backend=backend)
    far = positions >= 1  # no sample's upper corner is row 0
    assert far.any()
    assert torch.equal(out[far], clean[far])
    assert out.isnan().any()


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('value', [float('inf'), -float('inf'), 1e30, -1e30])
def test_offsets_outside_the_input_sample_zeros(value, backend):
    geo = geometry()
    x, offset, mask = random_inputs(geo, dtype=torch.float32)
    far = torch.full_like(offset, value)
    assert not call(dcnv3, (x, far, mask), geo, backend=backend).any()
    broken = torch.full_like(offset, float('nan'))
    assert call(dcnv3, (x, broken, mask), geo, backend=backend).isnan().all()


@pytest.mark.parametrize('backend', BACKENDS)
def test_results_are_deterministic(backend):
    geo = geometry(group_channels=16)
    tensors = random_inputs(geo, size=(20, 20), dtype=torch.float32)
    first, second = (with_gradients(lambda t: call(dcnv3, t, geo, backend=backend), tensors) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize('backend', BACKENDS)
def test_im2col_step_is_ignored(backend):
    geo = geometry()
    tensors = random_inputs(geo, 3)
    a, b = (call(dcnv3, tensors, geo, im2col_step=step, backend=backend) for step in (256, 2))
    assert torch.equal(a, b)
