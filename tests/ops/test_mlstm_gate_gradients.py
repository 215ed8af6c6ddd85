"""Gradients of the gates in float32 are as exact as those of the reference formula in float32, from closed to open."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitdet_plugin.ops.mlstm import mlstm

FORGET_BIASES, INPUT_BIASES = (-4, 0, 3, 8), (-10, 0, 3)


def inputs(length, forget, enter, seed, dim=16, heads=1, dtype=torch.float32):
    """q, k, v, i~, f~ and the gradient of the output; keys are similar to queries, as in the backbone."""
    g = torch.Generator().manual_seed(seed)
    q, k, v, direction = torch.randn(4, heads, length, dim, generator=g)
    gates = torch.randn(2, heads, length, generator=g) + torch.tensor([enter, forget])[:, None, None]
    return [x.to(dtype).requires_grad_() for x in (q, 0.7 * (q + k), v, *gates)], direction


def official(q, k, v, i_gate, f_gate):
    """Compute the parallel form (arXiv 2405.04517, section 2.3), all of it in the dtype of the inputs."""
    decay = F.logsigmoid(f_gate).cumsum(-1)
    logs = decay[..., :, None] - decay[..., None, :] + i_gate[..., None, :]
    logs = logs.masked_fill(torch.ones_like(logs, dtype=torch.bool).triu(1), -torch.inf)
    m = logs.amax(-1, keepdim=True)
    weights = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 * (logs - m).exp()
    return weights / (torch.maximum(weights.sum(-1, keepdim=True).abs(), (-m).exp()) + 1e-6) @ v


def gate_gradients(cell, args, direction, **kwargs):
    return torch.autograd.grad((cell(*args, **kwargs) * direction).sum(), args[3:])


def exact_gate_gradients(args, direction):
    return gate_gradients(mlstm, [x.detach().double().requires_grad_() for x in args], direction, form='chunkwise')


def error(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize('forget', FORGET_BIASES)
@pytest.mark.parametrize(('form', 'length', 'seeds'), [
    ('parallel', 64, 3), ('recurrent', 64, 1), ('chunkwise', 64, 3), ('chunkwise', 196, 3), ('chunkwise', 256, 3),
    ('chunkwise', 1024, 1)])
def test_gate_gradients_are_as_exact_as_the_official_form(form, length, seeds, forget):
    ratios = []
    for enter in INPUT_BIASES:
        for seed in range(seeds):
            args, direction = inputs(length, forget, enter, seed)
            exact = exact_gate_gradients(args, direction)
            ours, theirs = (gate_gradients(mlstm, args, direction, form=form),
                            gate_gradients(official, args, direction))
            ratios.append([error(a, c) / max(error(b, c), 3e-7) for a, b, c in zip(ours, theirs, exact, strict=True)])
    for of_gate in zip(*ratios, strict=True):  # single ratios vary: the output is divided by sums that can be near 0
        assert math.prod(of_gate) ** (1 / len(of_gate)) < 1.2


@pytest.mark.parametrize('forget', FORGET_BIASES)
def test_gate_gradients_are_more_exact_over_a_long_sequence(forget):
    args, direction = inputs(4096, forget, 0, seed=0)
    exact = exact_gate_gradients(args, direction)
    ours, theirs = gate_gradients(mlstm, args, direction), gate_gradients(official, args, direction)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert error(a, c) < 1.5 * error(b, c)
    assert error(ours[1], exact[1]) < 2e-5


@pytest.mark.parametrize('length', [100, 640])
def test_closed_gates_have_small_but_exact_gradients(length):
    """The sums over rows and columns exceed their difference about a hundred times."""
    args, direction = inputs(length, -6, -10, seed=0, dim=32)
    for found, exact in zip(gate_gradients(mlstm, args, direction), exact_gate_gradients(args, direction), strict=True):
        assert error(found, exact) < 2e-6


def test_bfloat16_tokens_leave_the_gates_their_precision():
    args, direction = inputs(320, 3, -6, seed=0)
    exact = exact_gate_gradients(args, direction)
    with torch.autocast('cpu', torch.bfloat16):
        found = gate_gradients(lambda q, k, v, *gates: mlstm(q.bfloat16(), k.bfloat16(), v.bfloat16(), *gates), args,
                               direction)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == torch.float32 and error(a, b) < 0.02


def test_no_head_at_all():
    args, direction = inputs(230, 3, 0, seed=0, heads=0)
    assert all(x.shape == (0, 230) for x in gate_gradients(mlstm, args, direction))
