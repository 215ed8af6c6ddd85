"""Multi-scale deformable attention: every backend against mmcv's PyTorch form, in float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import multi_scale_deform_attn as mmcv_module

import vitdet_plugin  # noqa: F401 (makes mmcv.ops importable)
from vitdet_plugin.errors import UserError
from vitdet_plugin.ops.ms_deform_attn import OPERATOR, ms_deform_attn
from vitdet_plugin.ops.native import STATUS

ROOT = Path(__file__).resolve().parents[2]
mmcv_form = mmcv_module.multi_scale_deformable_attn_pytorch.__wrapped__  # the original, not the patched function
compiled = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')
BACKENDS = [pytest.param('cpu', marks=compiled), 'pytorch']


def inputs(sizes=((4, 3), (2, 5)), batch=2, queries=5, heads=2, points=3, channels=4, dtype=torch.float64, seed=0):
    """Locations between the pixels, some of them outside the maps."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(sizes).reshape(-1, 2)
    shape = batch, queries, heads, len(sizes), points
    value = torch.randn(batch, int(sizes.prod(1).sum()), heads, channels, generator=generator, dtype=torch.float64)
    span = sizes.flip(1)[:, None]
    cell = (torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * (span + 3)).floor() - 1.5
    fraction = 0.1 + 0.8 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    tensors = value, (cell + fraction) / span.clamp(min=1), weights
    return sizes, [each.to(dtype).requires_grad_() for each in tensors]


def call(function, sizes, tensors, **options):
    value, locations, weights = tensors
    return function(value, sizes, locations, weights, **options)


def results(function, sizes, tensors, **options):
    """Output and gradients of value, locations and weights."""
    out = call(function, sizes, tensors, **options)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, tensors, direction)]


def assert_same(ours, expected, tolerance=1e-9):
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance, equal_nan=True)


@pytest.mark.parametrize('backend', BACKENDS)
@settings(max_examples=40)
@given(st.data())
def test_equals_mmcv_form(backend, data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    sizes = [(draw(1, 9), draw(1, 9)) for _ in range(draw(1, 5))]
    case = inputs(sizes, draw(0, 3), draw(0, 40), draw(1, 5), draw(1, 9), draw(1, 70), seed=draw(0, 99))
    assert_same(results(ms_deform_attn, *case, backend=backend), results(mmcv_form, *case))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_locations_on_pixels_edges_and_beyond(backend, dtype):
    """On a pixel the derivative is discontinuous; both sides must be chosen as by grid_sample."""
    sizes = [(1, 1), (2, 4), (8, 16)]
    shapes, tensors = inputs(sizes, queries=60, points=4, dtype=dtype)
    pixel = torch.randint(-2, 19, tensors[1].shape, generator=torch.Generator().manual_seed(2))
    tensors[1] = ((pixel + 0.5) / shapes.flip(1)[:, None]).to(dtype)
    tensors[1][0, :6] = torch.tensor([0.0, 1.0, -1e-7, 1e4, -1e9, 1 + 1e-7], dtype=dtype).reshape(-1, 1, 1, 1, 1)
    tensors[1].requires_grad_()
    assert_same(results(ms_deform_attn, shapes, tensors, backend=backend), results(mmcv_form, shapes, tensors),
                1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(('where', 'number'), [(1, float('nan')), (1, float('inf')), (1, -float('inf')),
                                               (2, float('nan'))])
def test_numbers_that_are_not_finite(backend, where, number):
    """They reach the outputs that depend on them, but no other query and no gradient of a pixel outside."""
    sizes, tensors = inputs(queries=6)
    with torch.no_grad():
        tensors[where][0, 1, 0, 1, 2] = number
        tensors[where][1, 3, 1, 0, 0].view(-1)[-1] = number  # of a location only y
        tensors[1][0, 4, 0, 0, 0], tensors[2][0, 4, 0, 0, 0] = 5.0, float('nan')  # a sample outside, times NaN
    ours, expected = (results(function, sizes, tensors, **options)
                      for function, options in ((ms_deform_attn, dict(backend=backend)), (mmcv_form, {})))
    assert expected[0].isnan().any()
    assert_same(ours, expected)


@pytest.mark.parametrize('backend', BACKENDS)
def test_empty_levels_add_nothing(backend):
    sizes, (value, locations, weights) = inputs()
    expected = results(ms_deform_attn, sizes, [value, locations, weights], backend=backend)
    for empty in ((0, 0), (0, 7), (3, 0)):
        wide = torch.tensor([sizes[0].tolist(), empty, sizes[1].tolist()])
        more = [torch.cat((x[:, :, :, :1], x[:, :, :, :1], x[:, :, :, 1:]), 3).detach().requires_grad_()
                for x in (locations, weights)]
        ours = results(ms_deform_attn, wide, [value, *more], backend=backend)
        assert_same(ours[:2], expected[:2])
        assert not ours[2][:, :, :, 1].any() and not ours[3][:, :, :, 1].any()
    none = torch.empty(0, 2, dtype=torch.int64)
    out = ms_deform_attn(value[:, :0], none, locations[:, :, :, :0], weights[:, :, :, :0], backend=backend)
    assert torch.equal(out, torch.zeros(2, 5, 8, dtype=out.dtype))


@pytest.mark.parametrize('backend', BACKENDS)
def test_layouts_of_the_inputs(backend):
    """Not contiguous tensors, also as gradients; sizes as a list or in int32."""
    sizes, tensors = inputs()
    strided = [each.detach().transpose(0, 1).contiguous().transpose(0, 1)[..., ::2].requires_grad_()
               for each in (tensors[0].repeat_interleave(2, -1), tensors[1].repeat_interleave(2, -1),
                            tensors[2].repeat_interleave(2, -1))]
    expected = call(ms_deform_attn, sizes, tensors, backend=backend)
    for each in (sizes, sizes.int(), sizes.tolist(), [tuple(size) for size in sizes.tolist()]):
        torch.testing.assert_close(call(ms_deform_attn, each, strided, backend=backend), expected)
    grads = [torch.autograd.grad(call(ms_deform_attn, sizes, each, backend=backend).sum(), each)  # an expanded gradient
             for each in (tensors, strided)]
    assert_same(*grads)


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradcheck(backend):
    sizes, tensors = inputs(queries=3, points=2, channels=3)
    assert torch.autograd.gradcheck(lambda *each: call(ms_deform_attn, sizes, each, backend=backend), tensors)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_low_precision_is_summed_in_float32(backend, dtype, tolerance):
    sizes, tensors = inputs([(16, 8), (8, 4)], queries=20, points=8, channels=37, dtype=dtype)
    wide = [each.detach().double().requires_grad_() for each in tensors]
    ours, expected = results(ms_deform_attn, sizes, tensors, backend=backend), results(mmcv_form, sizes, wide)
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.dtype == dtype
        scale = theirs.abs().max().item()
        torch.testing.assert_close(mine.double() / scale, theirs / scale, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize('backend', BACKENDS)
def test_mixed_dtypes_and_autocast(backend):
    sizes, tensors = inputs(dtype=torch.float32)
    mixed = [tensors[0].bfloat16(), tensors[1], tensors[2].bfloat16()]
    out = call(ms_deform_attn, sizes, mixed, backend=backend)
    assert out.dtype == torch.bfloat16
    expected = call(ms_deform_attn, sizes, [each.float() for each in mixed])
    torch.testing.assert_close(out, expected.bfloat16())
    with torch.autocast('cpu', torch.bfloat16):
        ours, theirs = call(ms_deform_attn, sizes, mixed, backend=backend), call(mmcv_form, sizes, mixed)
        if backend == 'cpu':
            assert_same([call(torch.ops.vitdet_plugin.ms_deform_attn, sizes, mixed)], [expected], 1e-6)
    assert ours.dtype == theirs.dtype == torch.float32
    assert_same([ours], [theirs], 1e-5)


@compiled
@pytest.mark.parametrize('case', [dict(), dict(batch=1, heads=1, points=1), dict(sizes=[(3, 3)], queries=700)])
def test_the_result_is_the_same_for_any_number_of_threads(case):
    sizes, tensors = inputs(dtype=torch.float32, channels=19, **case)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(results(ms_deform_attn, sizes, tensors, backend='cpu'))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


@compiled
@pytest.mark.parametrize('isa', ['base', 'avx2'])
def test_every_instruction_set_gives_the_same(isa, tmp_path):
    sizes, tensors = inputs([(7, 5), (3, 3)], queries=9, channels=29, dtype=torch.float32)
    torch.save([sizes, tensors], tmp_path / 'in.pt')
    code = ('import sys, torch, vitdet_plugin.ops.native\n'
            '(sizes, (value, locations, weights)), op = torch.load(sys.argv[1]), torch.ops.vitdet_plugin\n'
            'out = op.ms_deform_attn(value, sizes, locations, weights)\n'
            'grads = op.ms_deform_attn_backward(out, value, sizes, locations, weights)\n'
            'torch.save([out.detach(), *(each.detach() for each in grads)], sys.argv[2])')
    found = []
    for level in ('', isa):
        out = tmp_path / f'out{level}.pt'
        subprocess.run([sys.executable, '-c', code, str(tmp_path / 'in.pt'), str(out)], check=True,
                       env={**os.environ, 'PYTHONPATH': str(ROOT), 'OPS_DCNV3_ISA': level})
        found.append(torch.load(out))
    assert_same(*found, 1e-4)


def test_the_choice_of_a_backend(monkeypatch):
    sizes, tensors = inputs()
    monkeypatch.setattr(OPERATOR, 'default', 'pytorch')
    assert OPERATOR.info('cpu')['backend'] == 'pytorch'
    with pytest.raises(UserError, match="ms_deform_attn: 'gpu' is unknown; choose auto or one of cpu, triton, pytorch"):
        call(ms_deform_attn, sizes, tensors, backend='gpu')
    assert 'not on cuda' in OPERATOR.info('cuda')['rejected']['cpu'] or STATUS['cpu']


@pytest.mark.parametrize('backend', BACKENDS)
def test_shapes_that_do_not_match(backend):
    sizes, (value, locations, weights) = inputs()
    for arguments, message in [((value[0], sizes, locations, weights), r'value has shape \(22, 2, 4\); expected \(N'),
                               ((value, sizes, locations[..., :1], weights), r'locations has shape .* require \(2, 5'),
                               ((value[:1], sizes, locations, weights), 'the first .batch. and third dimension'),
                               ((value[:, 1:], sizes, locations, weights), '21'),
                               ((value, sizes[:1], locations, weights), 'level')]:
        with pytest.raises(ValueError, match=f'ms_deform_attn: .*{message}'):
            ms_deform_attn(*arguments, backend=backend)
