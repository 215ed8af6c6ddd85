"""Softmax over runs of the last dimension: the compiled kernel against PyTorch."""

import pytest
import torch

from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.tap_softmax import tap_softmax

compiled = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-14), (torch.float32, 3e-7),
                                                  (torch.bfloat16, 4e-3), (torch.float16, 5e-4)])
@compiled
def test_compiled_equals_pytorch(dtype, tolerance):
    for taps, runs in ((9, 37), (1, 3), (24, 16), (4, 0)):
        logits = (40 * torch.randn(2, 5, runs * taps, dtype=torch.float64)).to(dtype).requires_grad_()
        grad = torch.randn(logits.shape, dtype=torch.float64).to(dtype)
        wide = logits.detach().double().requires_grad_()
        expected = wide.unflatten(-1, (runs, taps)).softmax(-1).flatten(-2)
        out = torch.ops.vitdet_plugin.tap_softmax(logits, taps)
        torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
        ours, = torch.autograd.grad(out, logits, grad)
        theirs, = torch.autograd.grad(expected, wide, grad.double())
        torch.testing.assert_close(ours.double(), theirs, atol=4 * tolerance, rtol=4 * tolerance)
    if dtype == torch.float64:
        torch.library.opcheck(torch.ops.vitdet_plugin.tap_softmax, (torch.randn(2, 18, requires_grad=True), 9))

@compiled
def test_compiled_propagates_nan():
    logits = torch.zeros(3, 9)
    logits[0, 3], logits[1, 4], logits[2, 1:] = float('nan'), float('inf'), -float('inf')
    out = torch.ops.vitdet_plugin.tap_softmax(logits, 9)
    assert torch.equal(out.isnan(), logits.softmax(-1).isnan())
    assert out[2].tolist() == [1.0] + 8 * [0.0]
    with pytest.raises(ValueError, match='not a multiple of 7'):
        torch.ops.vitdet_plugin.tap_softmax(logits, 7)


@pytest.mark.parametrize('backend', [pytest.param('cpu', marks=compiled), 'pytorch', None])
def test_every_backend_is_the_softmax_of_each_run(backend):
    logits = torch.randn(2, 3, 4 * 5)
    out = tap_softmax(logits, 5, backend=backend)
    for run in range(4):
        part = slice(5 * run, 5 * run + 5)
        torch.testing.assert_close(out[..., part], logits[..., part].softmax(-1))
