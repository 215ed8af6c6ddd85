"""Second derivatives and forward mode through every registered backbone: right or an error."""

import pytest
import torch

from tests.backbones.registered import BACKBONES, image, tiny


def loss(model, x):
    return sum(out.square().mean() for out in model(x))


def gradient(model, x, create_graph=False):
    x = x.detach().requires_grad_()
    return x, torch.autograd.grad(loss(model, x), x, create_graph=create_graph)[0]


def hessian_product(model, x, v):
    x, grad = gradient(model, x, create_graph=True)
    return torch.autograd.grad((grad * v).sum(), x)[0].double()


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(params=BACKBONES, ids=lambda cls: cls.__name__)
def case(request):
    model = tiny(request.param).double().eval()
    x = image(model, batch=1, dtype=torch.float64)
    return model, x, torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_second_derivatives(case):
    model, x, v = case
    try:
        found = hessian_product(model, x, v)
    except RuntimeError as raised:  # PyTorch's own fused attention
        assert 'scaled_dot_product' in str(raised)
        return
    ahead, back = (gradient(model, x + sign * 1e-6 * v)[1] for sign in (1, -1))
    assert error(found, (ahead - back) / 2e-6) < 1e-4
    assert error(hessian_product(model.float(), x.float(), v.float()), found) < 2e-2


@pytest.mark.parametrize('with_grad', [True, False])
def test_forward_mode(case, with_grad):
    model, x, v = case
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.float32, 2e-2)):
        model = model.to(dtype)
        try:
            with torch.set_grad_enabled(with_grad):
                found = torch.func.jvp(lambda x, model=model: model(x)[0], (x.to(dtype),), (v.to(dtype),))[1].double()
        except NotImplementedError as raised:
            assert 'forward AD' in str(raised)
            return
        if dtype == torch.float64:
            with torch.no_grad():
                ahead, back = (model(x + sign * 1e-6 * v)[0] for sign in (1, -1))
            expected = (ahead - back) / 2e-6
        assert error(found, expected) < tolerance
