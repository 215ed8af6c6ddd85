"""WindowAttention against a naive implementation in the order of detectron2's operations."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers import attention as layer
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.ops import flops
from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.rel_pos_attention import OPERATOR


def attention(dim=12, heads=3, rel_pos_size=4, **kwargs):
    module = WindowAttention(dim, heads, rel_pos_size=rel_pos_size, **kwargs).double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return module


def attend_naively(module, x):
    """One map (H, W, C), one query at a time: softmax(s q k + q Rh + q Rw) v, then the projection."""
    h, w, dim = x.shape
    heads, head_dim = module.num_heads, dim // module.num_heads
    qkv = (x.reshape(h * w, dim) @ module.qkv.weight.T).view(h * w, 3, heads, head_dim)
    if module.qkv.bias is not None:
        qkv = qkv + module.qkv.bias.view(3, heads, head_dim)
    q, k, v = qkv.unbind(1)
    tables = [None if table is None else
              F.interpolate(table.T[None], size=2 * size - 1, mode='linear')[0].T
              for table, size in ((module.rel_pos_h, h), (module.rel_pos_w, w))]
    out = torch.empty(h * w, heads, head_dim, dtype=x.dtype)
    for i in range(h * w):
        scores = torch.einsum('nd,knd->nk', q[i], k) * head_dim ** -0.5
        if tables[0] is not None:
            rows = torch.stack([tables[0][i // w - j // w + h - 1] + tables[1][i % w - j % w + w - 1]
                                for j in range(h * w)])
            scores = scores + q[i] @ rows.T
        out[i] = torch.einsum('nk,knd->nd', scores.softmax(-1), v)
    return (out.reshape(h * w, dim) @ module.proj.weight.T + module.proj.bias).view(h, w, dim)


def reference(module, x):
    """Pad zeros before qkv, attend within each window, crop; the order of detectron2."""
    h, w = x.shape[1:3]
    size, shift = module.window_size, module.shift
    if not size:
        return torch.stack([attend_naively(module, image) for image in x])
    right, below = -(w + shift) % size, -(h + shift) % size
    padded = F.pad(x, (0, 0, shift, right, shift, below))
    out = torch.empty_like(padded)
    for i, image in enumerate(padded):
        for top in range(0, padded.shape[1], size):
            for left in range(0, padded.shape[2], size):
                window = image[top:top + size, left:left + size]
                out[i, top:top + size, left:left + size] = attend_naively(module, window)
    return out[:, shift:shift + h, shift:shift + w]


@settings(max_examples=8)
@given(h=st.integers(1, 5), w=st.integers(1, 5), window=st.integers(2, 4), shifted=st.booleans(), bias=st.booleans(),
       form=st.sampled_from(['auto', 'dense', 'folded']), first=st.booleans())
def test_windows_equal_zero_padding_before_qkv(h, w, window, shifted, bias, form, first):
    module = attention(rel_pos_size=window, window_size=window, shift=window // 2 if shifted else 0, qkv_bias=bias,
                       form=form)
    x = torch.randn(2, h, w, 12, dtype=torch.float64)
    with mock.patch.object(layer, '_pads_first', lambda x: first):
        torch.testing.assert_close(module(x), reference(module, x))


@pytest.mark.parametrize('first', [False, True])
@pytest.mark.parametrize('form', ['auto', 'dense', 'folded'])
def test_gradients_of_padded_windows(form, first, monkeypatch):
    """Padding with the bias after qkv must also give the bias the gradient of the padded positions."""
    monkeypatch.setattr(layer, '_pads_first', lambda x: first)
    module = attention(rel_pos_size=3, window_size=3, form=form)
    x = torch.randn(1, 4, 5, 12, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(1, 4, 5, 12, dtype=torch.float64)
    inputs = [x, *module.parameters()]
    expected = torch.autograd.grad(reference(module, x), inputs, cotangent)
    torch.testing.assert_close(torch.autograd.grad(module(x), inputs, cotangent), expected)


@pytest.mark.parametrize('hw', [(4, 4), (3, 5), (6, 2)])
def test_global_attention_interpolates_its_tables(hw):
    module = attention(rel_pos_size=4)
    x = torch.randn(2, *hw, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x))


@pytest.mark.parametrize('window', [0, 3])
def test_without_relative_positions(window):
    module = attention(rel_pos_size=None, window_size=window)
    assert not any('rel_pos' in name for name, _ in module.named_parameters())
    x = torch.randn(1, 4, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x))


def test_shifted_windows_connect_neighboring_windows():
    x = torch.randn(1, 6, 6, 12, dtype=torch.float64, requires_grad=True)

    def reaches(module):
        """Whether the output at (2, 2) depends on the input at (3, 3), across the border of windows of 3."""
        return torch.autograd.grad(module(x)[0, 2, 2].sum(), x)[0][0, 3, 3].abs().max().item() > 0

    assert not reaches(attention(rel_pos_size=3, window_size=3))
    assert reaches(attention(rel_pos_size=3, window_size=3, shift=1))


def test_forms_are_interchangeable_in_the_module():
    x = torch.randn(2, 5, 6, 12, dtype=torch.float64)
    module = attention(rel_pos_size=5)
    outs = []
    for form in [form for form in OPERATOR.backends if form not in ('flex', 'triton', 'cpu')]:
        module.form = form
        outs.append(module(x))
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0])


@pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')
@settings(max_examples=25)
@given(h=st.integers(1, 9), w=st.integers(1, 9), window=st.sampled_from([0, 2, 3, 4, 7]), shifted=st.booleans(),
       bias=st.booleans(), rel_pos=st.booleans())
def test_the_compiled_kernel_equals_the_other_forms(h, w, window, shifted, bias, rel_pos):
    module = attention(rel_pos_size=(window or 4) if rel_pos else None, window_size=window, qkv_bias=bias,
                       shift=window // 2 if shifted else 0)
    flops.register()
    x = torch.randn(2, h, w, 12, dtype=torch.float64)
    expected, called = module(x), []
    module.float()._attend_compiled = lambda qkv: called.append(1) or WindowAttention._attend_compiled(module, qkv)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = module(x.float())
    assert called and out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, atol=2e-5, rtol=2e-5)
    module.form = 'dense'
    with torch.no_grad(), FlopCounterMode(display=False) as expected_counter:
        module(x.float())
    if rel_pos:
        assert counter.get_total_flops() == expected_counter.get_total_flops()


@pytest.mark.parametrize('window', [0, 4])
def test_autocast_stays_close_to_float32(window):
    module = attention(window_size=window, rel_pos_size=4).float()
    x = torch.randn(1, 5, 6, 12)
    expected = module(x)
    with torch.autocast('cpu', torch.bfloat16):
        out = module(x)
    assert out.dtype == torch.bfloat16
    assert (out.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(dim=10, num_heads=3), 'embed_dim=10 is not divisible by num_heads=3'),
    (dict(dim=12, num_heads=3, form='fast'),
     "'fast' is unknown; choose auto or one of triton, cpu, chunked, folded, flex, dense"),
])
def test_invalid_arguments_are_reported(kwargs, message):
    with pytest.raises(UserError, match=message):
        WindowAttention(**kwargs)
