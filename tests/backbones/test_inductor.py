"""Backbones compiled with inductor at changing sizes: outputs and gradients of eager mode from a few graphs."""

import copy
import logging
import os

import pytest
import torch

from tests.backbones.registered import BACKBONES, disturb, image
from tests.backbones.test_captured_graphs import assert_close, build
from vitdet_plugin.backbones.convnext import ConvNeXtBackbone
from vitdet_plugin.backbones.volo import VOLO

counters = torch._dynamo.utils.counters


@pytest.fixture(autouse=True)
def reset_compiler(monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_COMPILE_THREADS', '1')
    torch._dynamo.reset()
    counters.clear()
    logging.getLogger('torch.__trace').setLevel(logging.CRITICAL)  # pytest would format every guard
    yield
    torch._dynamo.reset()


def images_of(model, rows, columns):
    """Not multiples of the stride where the model accepts that."""
    x = image(model, rows, columns)
    return x[..., :-3, :-5].contiguous() if model.size_divisor == 1 else x


def gradients(model, parameters, x):
    """Outputs of ``model``, then gradients of a weighted sum with respect to the images and parameters."""
    x = x.clone().requires_grad_()
    outs = model(x)
    generator = torch.Generator().manual_seed(0)
    total = sum((out * torch.randn(out.shape, generator=generator)).sum() for out in outs)
    return [*(out.detach() for out in outs), *torch.autograd.grad(total, [x, *parameters])]


def assert_as_exact(found, expected, exact):
    """Compare with float64: where an activation is about 0, the gradient of ReLU differs between float32 runs."""
    for a, b, c in zip(found, expected, exact, strict=True):
        error = (a - c).abs().max()
        assert error <= max(1e-4 * c.abs().max(), 2 * (b - c).abs().max()), (float(error), tuple(a.shape))


def compare(model, sizes, training, **options):
    """Compare with eager mode; return the number of graphs."""
    model.train(training)
    eager, compiled = copy.deepcopy(model), torch.compile(model, **options)
    for size in sizes:
        x = images_of(model, *size)
        if training:
            found, expected, exact = (
                gradients(run, [p for p in run.parameters() if p.requires_grad], x.to(next(run.parameters())))
                for run in (compiled, eager, copy.deepcopy(eager).double()))
            assert_as_exact(found, expected, exact)
        else:
            with torch.no_grad():
                assert_close(compiled(x), eager(x))
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, eager.get_buffer(name), msg=name)
    assert not counters['graph_break']
    return counters['stats']['unique_graphs']


def test_a_trained_stem_at_changing_sizes():
    """The strides of its output are quotients, which inductor alone does not order."""
    model = disturb(ConvNeXtBackbone(dict(depths=(0, 0, 0, 0), dims=(8, 8, 8, 8)), out_indices=(0,)))
    assert compare(model, ((3, 4), (9, 8), (5, 2)), training=True) <= 3


def test_sizes_of_padded_images_stay_short():
    """Sympy needs minutes for remainders and nested quotients."""
    found = []

    def backend(graph, inputs):
        outs = next(iter(reversed(graph.graph.nodes))).args[0]
        found.extend(str(side) for out in outs for side in out.meta['example_value'].shape[2:])
        return graph

    model = build(VOLO, out_indices=(0, 1, 2)).eval()
    with torch.no_grad():
        torch.compile(model, backend=backend, dynamic=True)(images_of(model, 3, 4))
    assert len(found) == 6 and not any('%' in side or 'Mod' in side for side in found), found
    assert all(side.count('//') == 1 for side in found[:4]), found  # the coarsest map halves once more


@pytest.mark.skipif('VITDET_SOAK' not in os.environ, reason='compiles for minutes: make soak')
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('training', [False, True], ids=['inference', 'training'])
@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_every_backbone(cls, training):
    sizes = (3, 4), (9, 8), (5, 2), (7, 7)
    # inductor generates the backward pass of a convolution for each size
    assert compare(build(cls), sizes, training, dynamic=True) <= (len(sizes) if training else 3)
