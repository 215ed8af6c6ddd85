"""Outlook attention: the plain form against loops and timm, the native form against the plain one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.outlook import OutlookAttention
from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.outlook_attention import OPERATOR, cpu, outlook_attention

needs_native = pytest.mark.skipif(not cpu.has_operator(), reason=f'no compiled kernel: {STATUS["cpu"]}')


def inputs(batch=2, height=5, width=7, heads=2, dim=5, stride=2, padding=1, kernel_size=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h, w = ((size + 2 * padding - kernel_size) // stride + 1 for size in (height, width))
    v = torch.randn(batch, height, width, heads * dim, generator=generator, dtype=torch.float64)
    a = 3 * torch.randn(batch, h, w, heads * kernel_size**4, generator=generator, dtype=torch.float64)
    return v.to(dtype).requires_grad_(), a.to(dtype).requires_grad_()


def by_loops(v, a, heads, kernel_size, stride, padding, scale):
    """Equations 3 to 6 of the paper, one position at a time."""
    out = torch.zeros_like(v)
    batch, height, width, channels = v.shape
    dim, positions = channels // heads, kernel_size**2
    for b in range(batch):
        for row in range(a.shape[1]):
            for column in range(a.shape[2]):
                window = [(row * stride - padding + i // kernel_size, column * stride - padding + i % kernel_size)
                          for i in range(positions)]
                inside = [0 <= y < height and 0 <= x < width for y, x in window]
                for head in range(heads):
                    part = slice(head * dim, (head + 1) * dim)
                    scores = a[b, row, column].view(heads, positions, positions)[head] * scale
                    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
                    for i in range(positions):
                        if inside[i]:
                            out[b, window[i][0], window[i][1], part] += sum(
                                weights[i, j] * v[b, window[j][0], window[j][1], part]
                                for j in range(positions) if inside[j])
    return out


@pytest.mark.parametrize(('kernel_size', 'stride', 'padding'), [(3, 2, 1), (3, 1, 1), (3, 3, 0), (5, 2, 2)])
def test_plain_form_is_the_papers_formula(kernel_size, stride, padding):
    shape = dict(kernel_size=kernel_size, stride=stride, padding=padding)
    v, a = inputs(batch=1, height=5, width=6, dim=2, **shape)
    out = outlook_attention(v, a, 2, scale=0.7, form='plain', **shape)
    with torch.no_grad():
        torch.testing.assert_close(out.detach(), by_loops(v, a, 2, kernel_size, stride, padding, 0.7))


@pytest.mark.parametrize('form', ['plain', pytest.param('native', marks=needs_native)])
@pytest.mark.parametrize('hw', [(6, 4), (5, 7)])
def test_module_equals_timms(form, hw):
    from timm.models.volo import OutlookAttention as Peer
    torch.manual_seed(0)
    peer, ours = Peer(16, 2, stride=2).double(), OutlookAttention(16, 2, form=form).double()
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(2, *hw, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), peer(x))


def results(form, v, a, heads, seed=1, **kwargs):
    out = outlook_attention(v, a, heads, form=form, **kwargs)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [out.detach(), *torch.autograd.grad(out, (v, a), direction.to(out.dtype))]


@needs_native
@settings(max_examples=25)
@given(batch=st.integers(1, 2), height=st.integers(1, 9), width=st.integers(1, 9), heads=st.integers(1, 3),
       dim=st.sampled_from([1, 7, 8, 16, 20, 33]), stride=st.integers(1, 3), padding=st.integers(1, 2))
def test_native_equals_plain_forward_and_backward(batch, height, width, heads, dim, stride, padding):
    v, a = inputs(batch, height, width, heads, dim, stride, padding)
    kwargs = dict(stride=stride, padding=padding, scale=dim**-0.5)
    for native, plain in zip(results('native', v, a, heads, **kwargs), results('plain', v, a, heads, **kwargs)):
        torch.testing.assert_close(native, plain, atol=1e-12, rtol=1e-12)


@needs_native
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_native_in_other_types(dtype, tolerance):
    v, a = inputs(height=14, width=9, heads=3, dim=32)
    expected = results('plain', v, a, 3, scale=0.3)
    low = [x.detach().to(dtype).requires_grad_() for x in (v, a)]
    for native, reference in zip(results('native', *low, 3, scale=0.3), expected):
        assert native.dtype == dtype
        assert (native.double() - reference).abs().max() <= tolerance * reference.abs().max()


@needs_native
def test_native_is_the_same_for_strided_inputs_and_any_number_of_threads():
    v, a = inputs(height=12, width=12, heads=4, dim=16, dtype=torch.float32)
    expected = results('native', v, a, 4)
    strided = [x.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_() for x in (v, a)]
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert all(torch.equal(x, y) for x, y in zip(results('native', *strided, 4), expected))
    finally:
        torch.set_num_threads(threads)


@needs_native
def test_native_with_extreme_scores():
    v, a = inputs(dtype=torch.float32)
    with torch.no_grad():
        a.mul_(1e4)
    torch.testing.assert_close(results('native', v, a, 2), results('plain', v, a, 2), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        a[0, 1, 1, 0] = a[0, 1, 2, 14] = math.nan  # the first score of a row, and a later one
    native, plain = (outlook_attention(v, a, 2, form=form) for form in ('native', 'plain'))
    assert torch.equal(native.isnan(), plain.isnan()) and native.isnan().any() and not native[1].isnan().any()


@needs_native
def test_native_operator_passes_opcheck():
    v, a = inputs(height=4, width=5)
    torch.library.opcheck(torch.ops.vitdet_plugin.outlook_attention.default, (v, a, 2, 2, 1, 0.5))
    torch.library.opcheck(torch.ops.vitdet_plugin.outlook_attention_backward.default,
                          (torch.randn_like(v), v.detach(), a.detach(), 2, 2, 1, 0.5))
    small = inputs(batch=1, height=3, width=2, heads=1, dim=2)
    assert torch.autograd.gradcheck(lambda *x: outlook_attention(*x, 1, scale=0.6, form='native'), small)


@needs_native
def test_native_compiles_without_a_graph_break():
    module = OutlookAttention(16, 2, form='native')
    x = torch.randn(1, 5, 4, 16)
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
    compiled(x).sum().backward()
    assert module.attn.weight.grad.any()


@needs_native
def test_native_under_autocast():
    v, a = inputs(height=8, width=8, dim=16, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = outlook_attention(v, a, 2, form='native')
        mixed = outlook_attention(v.bfloat16(), a, 2, form='native')
    assert out.dtype == torch.bfloat16 and torch.equal(out, mixed)
    out.float().sum().backward()
    assert v.grad.dtype == a.grad.dtype == torch.float32 and a.grad.any()


@pytest.mark.parametrize('built', [True, False])
def test_automatic_form(monkeypatch, built):
    """The native form if it is built and can serve the call, otherwise the plain form, with equal results."""
    if built and not cpu.has_operator():
        pytest.skip('the kernel is not compiled')
    if not built:
        monkeypatch.setattr(cpu, '_MISSING', 'not compiled')
    names = []
    choose = OPERATOR.choose
    monkeypatch.setattr(OPERATOR, 'choose', lambda *args: names.append(choose(*args).name) or choose(*args))
    v, a = inputs()
    torch.testing.assert_close(outlook_attention(v, a, 2), outlook_attention(v, a, 2, form='plain'))
    outlook_attention(*inputs(kernel_size=5, padding=2), 2, kernel_size=5, padding=2)
    outlook_attention(v, a, 2, dropout=0.5)
    outlook_attention(*(x.half() for x in (v, a)), 2)
    assert names == ['native' if built else 'plain', 'plain', 'plain', 'plain', 'plain']


def test_errors_give_the_reasons(monkeypatch):
    v, a = inputs()
    with pytest.raises(UserError, match="'fast' is unknown; choose auto or one of native, triton, plain"):
        outlook_attention(v, a, 2, form='fast')
    with pytest.raises(UserError, match="'fast' is unknown; choose auto or one of native, triton, plain"):
        OutlookAttention(8, 2, form='fast')
    with pytest.raises(UserError, match='dim=10 is not a multiple of num_heads=3'):
        OutlookAttention(10, 3)
    monkeypatch.setattr(cpu, '_MISSING', 'not compiled')
    message = r"'native' cannot serve this call: not compiled\. .*\(native: not compiled; .*; plain: available\)"
    with pytest.raises(UserError, match=message):
        outlook_attention(v, a, 2, form='native')


@needs_native
def test_native_reports_unsupported_calls():
    v, a = inputs(kernel_size=5, padding=2)
    with pytest.raises(UserError, match='serves kernel_size=3 without dropout, not 5 with 0.1'):
        outlook_attention(v, a, 2, kernel_size=5, padding=2, dropout=0.1, form='native')


@needs_native
def test_shapes_that_do_not_match():
    v, a = inputs()
    with pytest.raises(RuntimeError, match='outlook_attention: a is'):
        outlook_attention(v, a[:, :-1], 2, form='native')


def test_dropout_acts_in_training_only():
    module = OutlookAttention(8, 2, dropout=0.5)
    x = torch.randn(1, 4, 4, 8)
    assert not torch.equal(module(x), module(x))
    assert torch.equal(module.eval()(x), module(x))
