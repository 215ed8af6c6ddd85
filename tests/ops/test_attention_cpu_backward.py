"""Gradients of the compiled attention kernel: against float64, for any shape, layout and number of threads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.test_attention_cpu import TYPES, distance
from tests.ops.test_rel_pos_attention import draw
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.rel_pos_attention import cpu, rel_pos_attention
from vitdet_plugin.ops.rel_pos_attention.chunked import chunked
from vitdet_plugin.ops.rel_pos_attention.cpu import CompiledAttention, attention_cpu
from vitdet_plugin.ops.rel_pos_attention.reference import dense

pytestmark = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')


def gradients(form, tensors, scale, cotangent):
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    form(*leaves, scale).backward(cotangent.to(leaves[0].dtype))
    return [x.grad for x in leaves]


def check_gradients(tensors, scale, dtype, cancels=False):
    """Compare with float64. Where terms may cancel, errors are relative to the largest of the gradients, and those of
    bfloat16 may be larger: the gradients of few scores are differences of rounded numbers."""
    tensors = [x.to(dtype) for x in tensors]
    cotangent = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    ours = gradients(attention_cpu, tensors, scale, cotangent)
    expected = gradients(dense, [x.double() for x in tensors], scale, cotangent)
    largest = max(float(x.norm()) for x in expected)
    for each, right, x in zip(ours, expected, tensors, strict=True):
        assert each.dtype == dtype and each.shape == x.shape
        size = largest if cancels else float(right.norm())
        tolerance = 1e-5 if dtype == torch.float32 else 4e-2 if cancels else 1e-2
        assert (each.double() - right).norm() < tolerance * size


@settings(max_examples=40, deadline=None)
@given(groups=st.integers(1, 3), heads=st.integers(1, 3), queries=st.integers(1, 110), height=st.integers(1, 23),
       width=st.integers(1, 37), dim=st.integers(1, 40), scale=st.sampled_from([0.2, 1.0, 0.0, -0.3]))
@pytest.mark.parametrize('dtype', TYPES)
def test_any_shape(dtype, groups, heads, queries, height, width, dim, scale):
    check_gradients(draw(groups, heads, queries, height, width, dim), scale, dtype, cancels=True)


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('dim', [32, 64, 80, 128])
def test_head_sizes_of_vision_transformers(dtype, dim):
    check_gradients(draw(3, 2, 196, 14, 14, dim), dim ** -0.5, dtype)
    check_gradients(draw(1, 1, 64, 32, 20, dim), dim ** -0.5, dtype)


@pytest.mark.parametrize('dtype', TYPES)
def test_large_scores(dtype):
    tensors = [(x * 30).to(dtype) for x in draw(1, 2, 50, 8, 9, 16)]
    found = gradients(attention_cpu, tensors, 1.0, torch.ones(1, 2, 50, 16))
    assert all(x.isfinite().all() for x in found)
    check_gradients([x * 4 if i < 2 else x for i, x in enumerate(draw(1, 2, 50, 8, 9, 16))], 1.0, dtype, cancels=True)


@pytest.mark.parametrize('dtype', TYPES)
def test_without_bias_it_is_attention_of_pytorch(dtype):
    leaves = [x.to(dtype).requires_grad_() for x in draw(2, 3, 65, 1, 265, 64)[:3]]
    wide = [x.detach().double().requires_grad_() for x in leaves]
    with CompiledAttention():
        out = F.scaled_dot_product_attention(*leaves)
    expected = F.scaled_dot_product_attention(*wide)
    assert 'SDPA' not in type(out.grad_fn).__name__ and out.stride() == (65 * 192, 64, 192, 1)  # that of the kernel
    found = torch.autograd.grad(out.square().sum(), leaves)
    for ours, theirs in zip(found, torch.autograd.grad(expected.square().sum(), wide), strict=True):
        assert distance(ours, theirs) < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize('dtype', TYPES)
def test_strides_and_threads(dtype):
    q, k, v, rel_h, rel_w = (x.to(dtype) for x in draw(3, 2, 100, 9, 30, 24))
    cotangent = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = gradients(lambda *x: attention_cpu(*x), (q, k, v, rel_h, rel_w), 0.3, cotangent)
    joined = torch.cat([x.transpose(1, 2).flatten(2) for x in (k, v)], 2).requires_grad_()  # a projection
    odd = q.transpose(2, 3).contiguous().requires_grad_()  # the last dimension is not contiguous
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            other_k, other_v = joined.unflatten(2, (2, 2, 24)).permute(2, 0, 3, 1, 4)
            out = attention_cpu(odd.transpose(2, 3), other_k, other_v, rel_h, rel_w, 0.3)
            of_joined, of_q = torch.autograd.grad(out, (joined, odd), cotangent.expand(3, 2, 100, 24))
            assert torch.equal(of_q.transpose(2, 3), expected[0])
            assert torch.equal(of_joined, torch.cat([x.transpose(1, 2).flatten(2) for x in expected[1:3]], 2))
            broadcast, = torch.autograd.grad(attention_cpu(odd.transpose(2, 3), k, v, None, None, 0.3).sum(), odd)
            assert broadcast.isfinite().all()
    finally:
        torch.set_num_threads(threads)


def test_gradients_of_some_inputs_and_of_empty_ones():
    tensors = [x.float() for x in draw(2, 2, 10, 3, 4, 8)]
    expected = gradients(dense, tensors, 0.4, torch.ones(2, 2, 10, 8))
    for index in range(5):
        given = [x.clone().requires_grad_(i == index) for i, x in enumerate(tensors)]
        attention_cpu(*given, 0.4).sum().backward()
        torch.testing.assert_close(given[index].grad, expected[index], atol=1e-6, rtol=1e-4)
    empty = [x[:0].requires_grad_() for x in tensors]
    attention_cpu(*empty, 0.4).sum().backward()
    assert [x.grad.shape for x in empty] == [x.shape for x in empty]
    no_queries = [x[:, :, :0] if i in (0, 3, 4) else x for i, x in enumerate(tensors)]
    no_queries[1].requires_grad_()
    attention_cpu(*no_queries, 0.4).sum().backward()
    assert not tensors[1].grad.any()


@pytest.mark.filterwarnings('ignore')
def test_registered_for_tracing():
    tensors = [x.float().requires_grad_() for x in draw(2, 2, 6, 2, 3, 4)]
    for args in ((*tensors, 0.4), (*tensors[:3], None, None, 0.4)):
        torch.library.opcheck(torch.ops.vitdet_plugin.attention_forward, args)
    compiled = torch.compile(lambda *x: rel_pos_attention(*x, 0.4), backend='aot_eager', fullgraph=True)
    ours, theirs = (torch.autograd.grad(form(*tensors).square().sum(), tensors)
                    for form in (compiled, lambda *x: attention_cpu(*x, 0.4)))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_no_mode_is_entered_for_tensors_on_other_devices():
    assert not isinstance(cpu.compiled_attention(torch.empty(1, device='meta')), CompiledAttention)
    assert isinstance(cpu.compiled_attention(torch.empty(1)), CompiledAttention)


@pytest.mark.skipif('float32' not in cpu.FEATURES, reason='the kernel is not chosen on this processor')
@pytest.mark.parametrize('window', [0, 4])
@pytest.mark.parametrize('rel_pos_size', [None, 4])
def test_layers_train_with_it(window, rel_pos_size, monkeypatch):
    torch.manual_seed(0)
    layer = WindowAttention(32, 4, window_size=window, rel_pos_size=rel_pos_size)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 6, 5, 32, requires_grad=True)
    results = []
    for features in (cpu.FEATURES, ()):
        monkeypatch.setattr(cpu, 'FEATURES', features)
        out = layer(x)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), (x, *layer.parameters()))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=1e-4)
    assert not torch.equal(results[0][0], results[1][0])  # not the same code twice


@pytest.mark.skipif('float32' not in cpu.FEATURES, reason='the kernel is not chosen on this processor')
def test_blocks_of_timm_train_with_it(monkeypatch):
    torch.manual_seed(0)
    net = TimmViTDet(dict(family='VisionTransformer', embed_dim=24, depth=3, num_heads=2, patch_size=8, img_size=32),
                     window_size=3, frozen_stages=1)
    x, calls, original = torch.randn(2, 3, 40, 32), [], cpu.attention_cpu
    monkeypatch.setattr(cpu, 'attention_cpu', lambda *args: calls.append(cpu.needs_grad(*args[:3])) or original(*args))
    results = []
    trained = [p for p in net.parameters() if p.requires_grad]
    for features in (cpu.FEATURES, ()):
        monkeypatch.setattr(cpu, 'FEATURES', features)
        results.append(torch.autograd.grad(net(x)[0].square().sum(), trained))
    assert calls == [False, True, True]  # a frozen block, two trained ones
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=1e-3)


@pytest.mark.parametrize('dtype', TYPES)
def test_equal_to_the_chunked_form(dtype):
    tensors = [x.to(dtype) for x in draw(2, 2, 60, 6, 10, 16)]
    cotangent = torch.randn(2, 2, 60, 16, generator=torch.Generator().manual_seed(1))
    both = (gradients(form, tensors, 0.25, cotangent) for form in (attention_cpu, chunked))
    for ours, theirs in zip(*both, strict=True):
        assert distance(ours, theirs.double()) < (1e-5 if dtype == torch.float32 else 2e-2)
