"""Plain calls run the function itself; what is captured, observed or transformed gets the operator."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vitdet_plugin.ops.derivatives import DerivativeError
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.triton_support import to_widest


def run(x, y, factor):
    return factor * x * y, x.float() + 1


def run_backward(grad, x, y, plus_one, factor):
    assert plus_one.dtype == torch.float32
    return [factor * grad * y, factor * grad * x]


def fake(x, y, factor):
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.float32)


PRODUCT = Differentiable(
    'test_product', '(Tensor x, Tensor y, float factor) -> (Tensor, Tensor)', run, fake,
    Registered('test_product_backward', '(Tensor grad, Tensor x, Tensor y, Tensor plus_one, float factor) -> Tensor[]',
               run_backward, lambda grad, x, y, *others: [torch.empty_like(x), torch.empty_like(y)]),
    reference=lambda x, y, factor: factor * x * y, saved=(1,), cast=to_widest)
OPERATOR = torch.ops.vitdet_plugin.test_product.default


def product(x, y):
    return PRODUCT(x, y, 3.0)[0]


def inputs(dtype=torch.float32):
    return [torch.linspace(start, 2.0, 6, dtype=dtype).view(2, 3).requires_grad_() for start in (-1.0, 0.5)]


def gradients(function, tensors):
    out = function(*tensors)
    return [out, *torch.autograd.grad(out.float().square().sum(), tensors)]


class Observer(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    seen = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(str(func))
        return super().__torch_function__(func, types, args, kwargs)


@pytest.fixture
def without_operator(monkeypatch):
    def fail(*args):
        raise AssertionError('the operator was called')
    for each in (PRODUCT, PRODUCT.backward):
        monkeypatch.setattr(each, 'operator', fail)


@pytest.mark.parametrize('autocast', [False, True])
def test_plain_calls_do_not_use_the_operator(autocast, without_operator):
    x, y = inputs()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        out, *grads = gradients(product, [x, y])
    torch.testing.assert_close(out, 3 * x * y)
    torch.testing.assert_close(grads, [18 * x * y * y, 18 * x * x * y])
    with torch.no_grad():
        assert not product(x, y).requires_grad
    assert not product(x.detach(), y.detach()).requires_grad


def test_the_operator_has_the_same_results_and_registrations():
    tensors = inputs()
    for ours, direct in zip(gradients(product, tensors), gradients(lambda *x: OPERATOR(*x, 3.0)[0], tensors)):
        assert torch.equal(ours, direct)
    torch.library.opcheck(OPERATOR, (*tensors, 3.0))


def test_modes_see_the_operator_forward_and_backward():
    tensors = inputs()
    with Observer() as observer:
        gradients(product, tensors)
    assert [name for name in observer.seen if 'test_product' in name] == [
        'vitdet_plugin.test_product.default', 'vitdet_plugin.test_product_backward.default']


def test_fake_tensors_and_subclasses_get_the_operator():
    with FakeTensorMode() as mode:
        outside = product(*(mode.from_tensor(x) for x in inputs()))
    assert outside.shape == (2, 3)
    assert product(*(x.detach() for x in (outside, outside))).shape == (2, 3)  # after the mode
    Subclass.seen.clear()
    x, y = (each.detach() for each in inputs())
    product(x.as_subclass(Subclass), y)
    assert any('test_product' in name for name in Subclass.seen)


def test_vmap():
    x, y = (each.detach() for each in inputs())
    torch.testing.assert_close(torch.func.vmap(product)(x, y), 3 * x * y)


def test_compiled_and_traced_graphs_contain_the_operator():
    graphs = []

    def backend(module, example):
        graphs.append(str(module.graph))
        return module.forward

    tensors = inputs()
    compiled = torch.compile(product, fullgraph=True, backend=backend)
    for ours, expected in zip(gradients(compiled, tensors), gradients(product, tensors)):
        assert torch.equal(ours, expected)
    assert 'vitdet_plugin.test_product' in graphs[0]
    traced = torch.jit.trace(lambda x, y: product(x, y), [x.detach() for x in tensors])
    assert 'vitdet_plugin::test_product' in str(traced.graph)


@pytest.mark.parametrize('call', [product, lambda x, y: OPERATOR(x, y, 3.0)[0]], ids=['plain', 'operator'])
def test_autocast_converts_to_the_widest_type(call):
    x, y = inputs()
    mixed = x.detach().bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        out = call(mixed, y)
        grads = torch.autograd.grad(out.sum(), (mixed, y))
    assert out.dtype == torch.float32
    assert [grad.dtype for grad in grads] == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize('call', [product, lambda x, y: OPERATOR(x, y, 3.0)[0]], ids=['plain', 'operator'])
def test_second_derivatives_are_those_of_the_reference(call):
    x, y = inputs()
    grad, = torch.autograd.grad(call(x, y).square().sum(), x, create_graph=True)
    torch.testing.assert_close(grad, 18 * x * y * y)
    torch.testing.assert_close(torch.autograd.grad(grad.sum(), (x, y)), (18 * y * y, 36 * x * y))


@pytest.mark.parametrize('call', [product, lambda x, y: OPERATOR(x, y, 3.0)[0]], ids=['plain', 'operator'])
def test_derivatives_by_transforms_are_an_error(call):
    x, y = (each.detach() for each in inputs())

    def loss(x, y):
        return call(x, y).square().sum()

    with pytest.raises(DerivativeError, match="test_product has no forward-mode .* form 'pytorch' or 'dense'"):
        torch.func.jvp(loss, (x, y), (x, y))
    with pytest.raises(DerivativeError, match='test_product cannot be differentiated by torch.func'):
        torch.func.grad(loss)(x, y)


def test_an_operator_without_derivative_is_not_recorded():
    x, y = inputs()
    with pytest.raises(DerivativeError, match='test_product_backward cannot be differentiated'):
        PRODUCT.backward.operator(x, x, y, x, 3.0)


def test_an_output_without_gradient_gives_none():
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return None

    x, y = inputs()
    assert torch.autograd.grad(Stop.apply(product(x, y)).sum(), (x, y), allow_unused=True) == (None, None)
