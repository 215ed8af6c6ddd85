"""Derivatives of a higher order and in forward mode: right or an error, for every operator and function.

``kernels/test_derivatives.py`` has the Triton kernels.
"""

import re
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from ops_dcnv3 import dcnv3
from ops_dcnv3.native import STATUS as DCNV3_STATUS
from tests.ops.test_dispatch import REFERENCES
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.layers.block_diagonal import BlockDiagonalLinear
from vitdet_plugin.layers.vil import ViLLayer
from vitdet_plugin.ops.derivatives import DerivativeError
from vitdet_plugin.ops.dispatch import MODULES, BackendError, load_operator
from vitdet_plugin.ops.gated_norm import gated_norm
from vitdet_plugin.ops.mlstm import mlstm
from vitdet_plugin.ops.ms_deform_attn import ms_deform_attn
from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.outlook_attention import outlook_attention
from vitdet_plugin.ops.rel_pos_attention import rel_pos_attention
from vitdet_plugin.ops.rel_pos_attention.cpu import attention_cpu
from vitdet_plugin.ops.tap_softmax import tap_softmax

ROOT = Path(__file__).resolve().parents[2]
OPERATOR_CALLS = {
    'rel_pos_attention': ([(1, 2, 6, 4)] * 3 + [(1, 2, 6, 2), (1, 2, 6, 3)],
                          lambda form, *x: rel_pos_attention(*x, 0.5, form)),
    'outlook_attention': ([(1, 4, 4, 4), (1, 2, 2, 81)], lambda form, *x: outlook_attention(*x, 1, form=form)),
    'mlstm': ([(1, 20, 4)] * 3 + [(1, 20)] * 2, lambda form, *x: mlstm(*x, form=form, chunk=8)),
    'ms_deform_attn': ([(1, 6, 1, 4), (1, 2, 1, 1, 1, 2), (1, 2, 1, 1, 1)],
                       lambda form, v, xy, w: ms_deform_attn(v, [(2, 3)], xy.sigmoid(), w, backend=form)),
    'tap_softmax': ([(3, 8)], lambda form, x: tap_softmax(x, 4, backend=form)),
    'dcnv3': ([(1, 3, 4, 4), (1, 3, 4, 18), (1, 3, 4, 9)],
              lambda form, *x: dcnv3(*x, 3, 3, 1, 1, 1, 1, 1, 1, 1, 4, 1.0, backend=form)),
}
FORWARD_MODE = ('auto', 'dense', 'plain', 'parallel', 'recurrent', 'pytorch')  # forms of plain PyTorch
FORMS = [(name, form) for name in OPERATOR_CALLS for form in ('auto', *load_operator(name).backends)]
compiled = pytest.mark.skipif(STATUS['cpu'] is not None or DCNV3_STATUS['cpu'] is not None,
                              reason='no compiled operators')


def draw(shapes, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def error(found, expected):
    found, expected = (torch.cat([x.flatten().double() for x in tensors]) for tensors in (found, expected))
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def gradients(function, tensors, create_graph=False):
    leaves = [x.requires_grad_() if x.is_leaf else x for x in tensors]
    # outputs without a graph are an error here, as they would be for a user
    return torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=create_graph)


def second_derivative_error(function, tensors, exact=None):
    """Relative error of the product of the Hessian and a vector, compared with differences of gradients.

    If there is an ``exact`` function, the differences are its own, in float64.
    """
    vector = draw([x.shape for x in tensors], tensors[0].dtype, seed=2)
    leaves = [x.clone().requires_grad_() for x in tensors]
    grads = gradients(function, leaves, create_graph=True)
    product = torch.autograd.grad(sum((g * v).sum() for g, v in zip(grads, vector)), leaves)
    if exact is not None:
        tensors, vector = [x.double() for x in tensors], [v.double() for v in vector]
    step = 1e-6 if tensors[0].dtype == torch.float64 else 1e-2
    ahead, back = (gradients(exact or function, [x + sign * step * v for x, v in zip(tensors, vector)])
                   for sign in (1, -1))
    return error(product, [(a - b) / (2 * step) for a, b in zip(ahead, back)])


def tangent_error(function, tensors):
    """Relative error of the tangent in forward mode, compared with differences of the results."""
    step = 1e-6 if tensors[0].dtype == torch.float64 else 1e-2
    vector = draw([x.shape for x in tensors], tensors[0].dtype, seed=2)
    tangent = torch.func.jvp(function, tuple(tensors), tuple(vector))[1]
    with torch.no_grad():
        ahead, back = (function(*(x + sign * step * v for x, v in zip(tensors, vector))) for sign in (1, -1))
    return error([tangent], [(ahead - back) / (2 * step)])


def is_right(measure, function, tensors, *exact):
    """Whether a derivative is right; False if it is an error that names what is not supported."""
    try:
        found = measure(function, tensors, *exact)
    except (NotImplementedError, RuntimeError) as raised:
        assert re.search(r'forward|backward|derivative|differentiate|cannot serve', str(raised)), raised
        return False
    assert found < (1e-6 if tensors[0].dtype == torch.float64 else 3e-2), found
    return True


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize(('name', 'form'), FORMS)
def test_every_form_of_every_operator(name, form, dtype):
    shapes, function = OPERATOR_CALLS[name]
    tensors = draw(shapes, dtype)
    try:
        function(form, *tensors)
    except BackendError as reason:
        pytest.skip(str(reason))
    second = is_right(second_derivative_error, lambda *x: function(form, *x), tensors,
                      lambda *x: function(REFERENCES[name], *x))
    assert second or form in ('folded', 'flex')  # PyTorch's fused attention has none
    forward = is_right(tangent_error, lambda *x: function(form, *x), tensors)
    # grid_sample of PyTorch has no forward mode; no kernel has, so that auto chooses the reference implementation
    expected = name not in ('dcnv3', 'ms_deform_attn') and form in FORWARD_MODE
    has = 'has' if forward else 'has no'
    assert forward == expected, f'{name}: {form} {has} forward mode, FORWARD_MODE says otherwise'


@pytest.mark.parametrize('name', OPERATOR_CALLS)
def test_gradients_by_torch_func(name):
    shapes, function = OPERATOR_CALLS[name]
    tensors = draw(shapes)
    expected = gradients(lambda *x: function('auto', *x), draw(shapes))

    def loss(*x):
        return function('auto', *x).square().sum()

    every = tuple(range(len(tensors)))
    assert error(torch.func.grad(loss, every)(*tensors), expected) < 1e-9
    batch = [torch.stack([x, x]) for x in tensors]
    assert error([x[1] for x in torch.func.vmap(torch.func.grad(loss, every))(*batch)], expected) < 1e-9


def test_the_operators_above_are_all():
    assert set(MODULES) - set(OPERATOR_CALLS) == {'nms'}  # returns indices


def modules(dtype):
    torch.manual_seed(0)
    layers = {'block diagonal': (BlockDiagonalLinear(8, 2), (1, 3, 8)),
              'Vision-LSTM': (ViLLayer(4, heads=2, reverse=False, conv_kind='2d', conv_kernel_size=3, proj_bias=True,
                                       norm_bias=True, form='chunkwise'), (1, 6, 4)),
              'windows': (WindowAttention(8, 2, window_size=2, rel_pos_size=2), (1, 3, 4, 8)),
              'whole map': (WindowAttention(8, 2), (1, 3, 4, 8))}
    for layer, _ in layers.values():
        with torch.no_grad():
            for p in layer.parameters():
                p.normal_(std=0.5)
        layer.to(dtype)
    return layers


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('name', modules(torch.float64))
def test_layers_also_with_respect_to_their_parameters(name, dtype):
    layer, shape = modules(dtype)[name]
    names, parameters = zip(*layer.named_parameters())

    def function(x, *values):
        arguments = ((2, 3),) if name == 'Vision-LSTM' else ()
        return torch.func.functional_call(layer, dict(zip(names, values)), (x, *arguments))

    tensors = draw([shape], dtype) + [p.detach() for p in parameters]
    second = is_right(second_derivative_error, function, tensors, function)
    assert second or name == 'whole map'  # PyTorch's fused attention has none
    if name == 'Vision-LSTM':  # the chunkwise form is named
        with pytest.raises(BackendError, match="'chunkwise' cannot serve this call: has neither forward-mode"):
            tangent_error(function, tensors)
    else:
        is_right(tangent_error, function, tensors)
        with torch.no_grad():  # oneDNN's products and the kernels for inference
            is_right(tangent_error, function, tensors)


@pytest.mark.parametrize('linear', [False, True])
def test_a_loss_that_is_linear_in_the_output(linear):
    """The gradient of the output is a constant, but the gradients of the inputs are not."""
    tensors = [x.requires_grad_() for x in draw([(1, 20, 4)] * 3 + [(1, 20)] * 2)]
    results = []
    for form in ('chunkwise', 'parallel'):
        out = mlstm(*tensors, form=form, chunk=8)
        grad, = torch.autograd.grad(out.sum() if linear else out.exp().sum(), tensors[0], create_graph=True)
        results.append(torch.autograd.grad(grad.square().sum(), tensors, allow_unused=True))
    assert error(*results) < 1e-9


class Recorder(TorchDispatchMode):
    """Records the arguments of the first call of each operator of the package."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'vitdet_plugin' and func not in self.calls:
            self.calls[func] = tuple(x.detach().clone() if isinstance(x, torch.Tensor) else x for x in args)
        return func(*args, **(kwargs or {}))


def recorded_calls():
    """Operator -> arguments, for all that run on a CPU."""
    with Recorder() as recorder:
        for name, form in FORMS:
            shapes, function = OPERATOR_CALLS[name]
            for dtype in (torch.float64, torch.float32):
                try:
                    gradients(lambda *x, f=function, form=form: f(form, *x), draw(shapes, dtype))
                except (BackendError, NotImplementedError):
                    continue
        for dtype in (torch.float64, torch.float32):
            for name, (layer, shape) in modules(dtype).items():
                arguments = ((2, 3),) if name == 'Vision-LSTM' else ()
                gradients(lambda x, layer=layer, arguments=arguments: layer(x, *arguments), draw([shape], dtype))
                with torch.no_grad():
                    layer(*draw([shape], dtype), *arguments)
        attention_cpu(*draw([(1, 2, 6, 4)] * 3, torch.float32), None, None, 1.0)
        for short, shapes, rest in (('rel_pos_attention_chunked', [(2, 6, 4)] * 3 + [(2, 6, 2), (2, 6, 3)], ()),
                                    ('mlstm_chunkwise', [(1, 20, 4)] * 3 + [(1, 20)] * 2, (8,))):
            operator = getattr(torch.ops.vitdet_plugin, short)  # compiled graphs contain these
            gradients(lambda *x, f=operator, rest=rest: first(f(*x, *rest)), draw(shapes))
    return recorder.calls


def first(result):
    return next(x for x in ([result] if isinstance(result, torch.Tensor) else result) if x.is_floating_point())


@compiled
def test_every_registered_operator():
    """A gradient of each is right or an error, also of those that compute gradients; none has a tangent."""
    calls = recorded_calls()
    names = {name.partition('::')[2].partition('.')[0] for name in torch._C._dispatch_get_all_op_names()
             if name.startswith('vitdet_plugin::') and 'test_' not in name}
    found = {func._schema.name.partition('::')[2] for func in calls}
    assert {name for name in names - found if 'triton' not in name} <= {'attention_features', 'suppress'}
    right = set()
    for func, args in calls.items():
        indices = [i for i, x in enumerate(args) if isinstance(x, torch.Tensor) and x.is_floating_point()]

        def function(*some, func=func, args=args, indices=indices):
            args = list(args)
            for i, x in zip(indices, some):
                args[i] = x.clone()  # some change their arguments
            return first(func(*args))

        tensors = [args[i] for i in indices]
        if is_right(second_derivative_error, function, tensors):
            right.add(func._schema.name.partition('::')[2])
        assert not is_right(tangent_error, function, tensors), func
        with forward_ad.dual_level(), pytest.raises(NotImplementedError):
            function(*(forward_ad.make_dual(x, torch.ones_like(x)) for x in tensors))
    assert right == {'attention_forward', 'dcnv3', 'mlstm_chunkwise', 'ms_deform_attn', 'outlook_attention',
                     'rel_pos_attention_chunked', 'tap_softmax'}


def test_operators_that_have_no_derivative_say_so():
    from ops_dcnv3 import triton  # noqa: F401  registers the operator
    operator = torch.ops.vitdet_plugin.dcnv3_triton_backward
    arguments = ([3, 3], [1, 1], [1, 1], [1, 1], 1, 4, 1.0, False)
    tensors = draw([(1, 3, 4, 4), (1, 3, 4, 4), (1, 3, 4, 18), (1, 3, 4, 9)], torch.float32)
    with pytest.raises(DerivativeError, match='dcnv3_triton_backward cannot be differentiated'):
        operator(*(x.requires_grad_() for x in tensors), *arguments)


def test_every_autograd_function_is_known():
    """PyTorch's ``once_differentiable`` does not raise if gradients of inputs are asked for."""
    found = set()
    for folder in ('vitdet_plugin', 'ops_dcnv3'):
        for path in (ROOT / folder).rglob('*.py'):
            text = path.read_text(encoding='utf-8')
            if 'autograd.Function)' in text:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {
        'vitdet_plugin/ops/block_diagonal.py', 'vitdet_plugin/ops/gated_norm.py',  # layers above
        'vitdet_plugin/ops/derivatives.py', 'vitdet_plugin/ops/registered.py',  # operators above
        'vitdet_plugin/heads/cascade_roi_head.py',  # below
        'vitdet_plugin/evaluation/scaling/operators.py'}  # results are not computed


def test_the_scaled_gradient_of_the_cascade_is_differentiable():
    from vitdet_plugin.heads.cascade_roi_head import _ScaleGradient
    x = torch.tensor([2.0], requires_grad=True)
    grad, = torch.autograd.grad(_ScaleGradient.apply(x, 0.5) ** 3, x, create_graph=True)
    assert grad.item() == 0.5 * 3 * 4
    assert torch.autograd.grad(grad, x)[0].item() == 0.5 * 0.5 * 6 * 2


@compiled
def test_gradients_of_gated_norm_without_bias():
    shapes = [(2, 1, 3, 2), (1, 3, 4), (1, 3, 4), (4,), (4,)]
    assert is_right(second_derivative_error, lambda h, c, z, w, skip: gated_norm(h, c, z, w, None, skip, 1e-5),
                    draw(shapes))
