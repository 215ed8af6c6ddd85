"""The forms of the mLSTM cell have equal values and gradients, and the chunkwise one is linear in the tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdet_plugin.errors import UserError
from vitdet_plugin.ops.mlstm import OPERATOR, mlstm
from vitdet_plugin.ops.mlstm.chunkwise import chunk_length


def inputs(length, dim=8, heads=(2,), dtype=torch.float64, wild=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(*heads, length, dim, generator=g, dtype=dtype).requires_grad_() for _ in range(3))
    i_gate = (wild * torch.randn(*heads, length, generator=g, dtype=dtype)).requires_grad_()
    f_gate = (wild * torch.randn(*heads, length, generator=g, dtype=dtype) + 3).requires_grad_()
    return q, k, v, i_gate, f_gate


def value_and_gradients(args, valid=None, seed=1, **kwargs):
    out = mlstm(*args, valid=valid, **kwargs)
    if valid is not None:
        out = torch.where(valid[..., None], out, 0)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out.dtype)
    return [out, *torch.autograd.grad((out * direction).sum(), args)]


def assert_same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * max(b.abs().max(), 1e-4)


@pytest.mark.parametrize('form', ['parallel', 'chunkwise'])
@pytest.mark.parametrize('wild', [1.0, 6.0])
@pytest.mark.parametrize(('length', 'chunk'), [(1, None), (7, None), (24, 8), (37, 8), (230, None), (196, None),
                                              (290, 145)])
def test_forms_equal_the_recurrence(form, wild, length, chunk):
    args = inputs(length, wild=wild)
    assert_same(value_and_gradients(args, form=form, chunk=chunk), value_and_gradients(args, form='recurrent'), 1e-10)


@settings(max_examples=25)
@given(length=st.integers(2, 30), chunk=st.integers(1, 31), seed=st.integers(0, 99), data=st.data())
def test_tokens_that_are_not_valid_have_no_effect(length, chunk, seed, data):
    """With padding before, between and after them, the others have the values and gradients of the others alone."""
    valid = torch.tensor(data.draw(st.lists(st.booleans(), min_size=length, max_size=length).filter(any)))
    args = inputs(length, heads=(), wild=4.0, seed=seed)
    alone = [x.detach()[valid].requires_grad_() for x in args]
    expected = mlstm(*alone, form='recurrent')
    direction = torch.randn_like(expected)
    expected = [expected, *torch.autograd.grad((expected * direction).sum(), alone)]
    for form in OPERATOR.backends.keys() - {'triton'}:
        out = mlstm(*args, valid=valid, form=form, chunk=chunk)[valid]
        grads = torch.autograd.grad((out * direction).sum(), args)
        assert_same([out, *(grad[valid] for grad in grads)], expected, 1e-9)
        assert all(torch.isfinite(grad).all() for grad in grads)
        assert not any(grad[~valid].any() for grad in grads[1:])  # keys, values, gates


@pytest.mark.parametrize(('length', 'form'), [(64, 'parallel'), (65, 'chunkwise')])
def test_the_automatic_form(length, form):
    args = inputs(length, dtype=torch.float32)
    assert torch.equal(mlstm(*args), mlstm(*args, form=form))
    assert not torch.equal(mlstm(*args), mlstm(*args, form='recurrent'))


def test_a_token_depends_on_earlier_ones_only():
    args = inputs(40)
    before = mlstm(*args, form='chunkwise', chunk=8)
    changed = [x.detach().clone() for x in args]
    for x in changed:
        x[:, 21:] += 1
    after = mlstm(*changed, form='chunkwise', chunk=8)
    torch.testing.assert_close(after[:, :21], before[:, :21])
    assert (after[:, 21:] - before[:, 21:]).abs().max() > 1e-3


def test_float32_is_as_exact_as_the_reference_over_a_long_sequence():
    args = inputs(1000, dim=16, dtype=torch.float32)
    exact = value_and_gradients([x.detach().double().requires_grad_() for x in args])
    errors = {}
    for form in ('parallel', 'chunkwise'):
        found = value_and_gradients(args, form=form)
        assert all(x.dtype == torch.float32 for x in found)
        errors[form] = [((x - y).abs().max() / y.std()).item() for x, y in zip(found, exact, strict=True)]
    for ours, reference in zip(errors['chunkwise'], errors['parallel'], strict=True):
        assert ours < 2 * reference + 1e-6


def test_gates_are_computed_in_float32_under_autocast():
    q, k, v, i_gate, f_gate = inputs(200, dim=16, dtype=torch.float32)
    expected = mlstm(q, k, v, i_gate, f_gate)
    with torch.autocast('cpu', torch.bfloat16):
        out = mlstm(q.bfloat16(), k.bfloat16(), v.bfloat16(), i_gate, f_gate, chunk=32)
        rough = mlstm(q, k, v, i_gate.bfloat16(), f_gate.bfloat16())
    assert out.dtype == torch.bfloat16
    assert (out - expected).abs().max() < 0.05 * expected.abs().max()
    assert (rough - expected).abs().max() > 1e-4 * expected.abs().max()  # the gates' precision matters
    torch.autograd.grad(out.sum(), q)


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('length', [100, 300])
def test_gradients_in_any_memory_layout(batch, length):
    """Heads are concatenated after the cell, so their gradients are interleaved in memory."""
    args, grads = inputs(length, heads=(2, batch)), {}
    direction = torch.randn(batch, length, 2, 8, dtype=torch.float64)
    for form in ('parallel', 'chunkwise'):
        out = mlstm(*args, form=form).permute(1, 2, 0, 3)
        grads[form] = torch.autograd.grad((out * direction).sum(), args)
    assert_same(grads['chunkwise'], grads['parallel'], 1e-10)


def saved_elements(length):
    args, sizes = inputs(length, dtype=torch.float32), {}

    def note(t):
        sizes[t.data_ptr()] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        mlstm(*args, form='chunkwise', chunk=16)
    return sum(sizes.values())


def test_memory_saved_for_the_backward_pass_is_linear_in_the_tokens():
    short, long = saved_elements(128), saved_elements(1024)
    assert long < 8.5 * short
    assert long < 1024 * 1024 / 4


def test_no_tensor_of_tokens_by_tokens_is_created():
    """Over all operations, forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for each in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(each, torch.Tensor):
                    largest = max(largest, each.numel())
            return out

    args = inputs(2048, dim=16, heads=(1,), dtype=torch.float32)
    with Watch():
        mlstm(*args).sum().backward()
    assert largest <= 2048 * max(chunk_length(2048, 16), 16)


@pytest.mark.parametrize(('length', 'dim'), [(196, 96), (256, 64), (1600, 96), (4096, 96), (1600, 384), (4096, 384)])
def test_chunks_divide_the_sequence(length, dim):
    chunk = chunk_length(length, dim)
    assert chunk == length if length <= 200 else dim / 2 <= chunk <= 256
    assert length % chunk == 0


def test_a_length_without_a_suitable_divisor_is_padded():
    assert chunk_length(1601, 96) == 64


def test_an_unknown_form_is_an_error():
    with pytest.raises(UserError, match="mlstm: 'fast' is unknown; choose auto or one of triton, chunkwise, "):
        mlstm(*inputs(4), form='fast')
