"""The forms of attention with relative position bias: values and gradients of the formula, memory, dtypes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdet_plugin.errors import UserError
from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.rel_pos_attention import OPERATOR, chunked, rel_pos_attention

FORMS = {name: backend.run for name, backend in OPERATOR.backends.items() if name not in ('triton', 'cpu')}
# see kernels/ and test_attention_cpu.py
TRAINABLE = ['dense', 'folded', 'chunked']
NAMES = ('q', 'k', 'v', 'rel_h', 'rel_w')


def draw(groups, heads, queries, height, width, dim, dtype=torch.float64):
    generator = torch.Generator().manual_seed(groups + 10 * heads + 100 * queries + height)
    shapes = [(queries, dim), (height * width, dim), (height * width, dim), (queries, height), (queries, width)]
    return [torch.randn(groups, heads, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def naive(q, k, v, rel_h, rel_w, scale):
    """One score at a time."""
    width = rel_w.shape[-1]
    scores = torch.stack([scale * (q * k[:, :, None, j]).sum(-1) + rel_h[..., j // width] + rel_w[..., j % width]
                          for j in range(k.shape[2])], -1)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum('gnqk,gnkd->gnqd', weights, v)


def run(form, tensors, cotangent, scale=0.3):
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    function = naive if form == 'naive' else FORMS[form]
    out = function(*leaves, scale)
    out.backward(cotangent)
    return [out.detach()] + [x.grad for x in leaves]


@settings(max_examples=25)
@given(groups=st.integers(1, 3), heads=st.integers(1, 3), queries=st.integers(1, 13), height=st.integers(1, 5),
       width=st.integers(1, 5), dim=st.integers(1, 6), chunk=st.integers(1, 200))
def test_forms_equal_the_formula_forward_and_gradient(groups, heads, queries, height, width, dim, chunk):
    """Also if the chunk divides neither the queries nor the heads, or is smaller than one row."""
    tensors = draw(groups, heads, queries, height, width, dim)
    cotangent = torch.randn(groups, heads, queries, dim, dtype=torch.float64)
    expected = run('naive', tensors, cotangent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, 'CHUNK_ELEMENTS', chunk)
        for form in TRAINABLE:
            for name, ours, theirs in zip(('out', *NAMES), run(form, tensors, cotangent), expected):
                torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-9,
                                           msg=lambda m, at=f'{form} {name}': f'{at}: {m}')


@pytest.mark.filterwarnings('ignore:flex_attention called without')
def test_every_form_forward_at_a_window_batch():
    """50 windows of 7 x 7; includes flex, which PyTorch cannot differentiate on the CPU."""
    tensors = draw(50, 2, 49, 7, 7, 8)
    expected = FORMS['dense'](*tensors, 0.25)
    for form in FORMS:
        torch.testing.assert_close(FORMS[form](*tensors, 0.25), expected, atol=1e-10, rtol=1e-9)


def test_large_scores_do_not_overflow():
    tensors = [x * 40 for x in draw(1, 2, 12, 3, 4, 8, torch.float32)]
    expected = FORMS['dense'](*(x.double() for x in tensors), 1.0)
    for form in TRAINABLE:
        torch.testing.assert_close(FORMS[form](*tensors, 1.0).double(), expected, atol=0.2, rtol=1e-2)


def test_chunked_gradcheck(monkeypatch):
    monkeypatch.setattr(chunked, 'CHUNK_ELEMENTS', 18)
    tensors = [x.requires_grad_() for x in draw(1, 2, 5, 2, 3, 3)]
    assert torch.autograd.gradcheck(lambda *t: FORMS['chunked'](*t, 0.4), tensors)


def test_chunked_gives_gradients_to_some_inputs_only():
    tensors = draw(1, 2, 6, 2, 3, 4)
    tensors[2].requires_grad_()
    FORMS['chunked'](*tensors, 0.4).sum().backward()
    assert tensors[2].grad is not None and tensors[0].grad is None


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('form', TRAINABLE)
def test_half_precision_stays_close_to_float32(form, dtype):
    tensors = draw(2, 2, 30, 5, 6, 16, dtype)
    cotangent = torch.randn(2, 2, 30, 16)
    expected = run('dense', [x.float() for x in tensors], cotangent)
    tolerance = 0.06 if dtype == torch.bfloat16 else 0.01
    for name, ours, theirs in zip(('out', *NAMES), run(form, tensors, cotangent.to(dtype)), expected):
        assert ours.dtype == dtype
        assert (ours.float() - theirs).abs().max() < tolerance * max(1, theirs.abs().max()), name


@pytest.mark.parametrize('form', TRAINABLE)
def test_mixed_dtypes_under_autocast(form):
    """Under autocast products are bfloat16 and tables float32; each gradient has the dtype of its input."""
    tensors = draw(1, 2, 30, 5, 6, 16, torch.float32)
    mixed = [x.bfloat16().requires_grad_() for x in tensors[:3]] + [x.clone().requires_grad_() for x in tensors[3:]]
    with torch.autocast('cpu', torch.bfloat16):
        out = rel_pos_attention(*mixed, 0.25, form)
        out.float().sum().backward()
    assert (out.float() - FORMS['dense'](*tensors, 0.25)).abs().max() < 0.06
    assert [x.grad.dtype for x in mixed] == [x.dtype for x in mixed]


def saved_elements(form, tensors):
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        FORMS[form](*(x.requires_grad_() for x in tensors), 0.25)
    return max(sizes)


def test_chunked_saves_no_tensor_of_queries_times_keys():
    scores = 2 * 144 * 144
    assert saved_elements('chunked', draw(1, 2, 144, 12, 12, 8)) <= 2 * 144 * 12
    assert saved_elements('dense', draw(1, 2, 144, 12, 12, 8)) >= scores  # the dense form saves one


@pytest.mark.parametrize('chunk', [7, 100, 1000, 10 ** 6])
def test_blocks_cover_every_score_once_within_the_budget(monkeypatch, chunk):
    monkeypatch.setattr(chunked, 'CHUNK_ELEMENTS', chunk)
    heads, queries, keys = 6, 11, 30
    seen = torch.zeros(heads, queries)
    for head, row in chunked._blocks(heads, queries, keys):
        seen[head, row] += 1
        assert seen[head, row].numel() * keys <= max(chunk, keys)
    assert (seen == 1).all()


def test_auto_is_chunked_on_the_cpu_and_dense_while_exporting(monkeypatch):
    q = torch.zeros(1)
    assert OPERATOR.choose(case_of(q.double())).name == 'chunked'  # float64: not served by the compiled kernel
    assert OPERATOR.choose(case_of(q.to('meta'))).name == 'folded'
    monkeypatch.setattr('vitdet_plugin.ops.case.is_exporting', lambda: True)
    assert OPERATOR.choose(case_of(q)).name == 'dense'
    assert OPERATOR.choose(case_of(q), 'folded').name == 'folded'


def test_an_unknown_form_is_an_error():
    with pytest.raises(UserError, match="rel_pos_attention: 'fast' is unknown; choose auto or one of triton, "):
        rel_pos_attention(*draw(1, 1, 4, 2, 2, 3), 1.0, form='fast')
