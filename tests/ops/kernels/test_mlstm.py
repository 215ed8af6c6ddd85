"""The mLSTM cell by Triton against the parallel form in float64."""

import pytest
import torch

from tests.devices import requires_triton
from tests.ops.kernels.comparison import TOLERANCES, gradients, relative_error
from vitdet_plugin.ops.mlstm import mlstm

pytestmark = requires_triton


def draw(device, heads, tokens, dim, dtype=torch.float32, spread=1.0):
    generator = torch.Generator().manual_seed(tokens)
    tensors = [torch.randn(heads, tokens, dim, generator=generator).to(device, dtype) for _ in range(3)]
    gates = [spread * torch.randn(heads, tokens, generator=generator) + mean for mean in (0.0, 2.0)]
    return [*tensors, *(gate.to(device) for gate in gates)]


def compare(tensors, chunk, tolerance=None):
    wide = [x.double().cpu() for x in tensors]
    cotangent = torch.randn(wide[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cotangent = cotangent.to(tensors[0].dtype).double()
    expected = gradients(lambda *x: mlstm(*x, form='parallel'), wide, cotangent)
    found = gradients(lambda *x: mlstm(*x, form='triton', chunk=chunk), tensors, cotangent)
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        error = relative_error(ours, theirs)
        assert error < (tolerance or TOLERANCES[tensors[0].dtype]), (index, error)


@pytest.mark.parametrize(('shape', 'chunk', 'spread'), [
    ((2, 37, 8), 16, 1.0),    # the last chunk is not full
    ((1, 40, 70), 20, 1.0),   # several blocks of dimensions; the chunk is rounded up to 32
    ((1, 50, 4), 16, 5.0)])   # wild gates
def test_output_and_gradients(device, shape, chunk, spread):
    compare(draw(device, *shape, spread=spread), chunk)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    compare(draw(device, 1, 37, 16, dtype), 16, 0.04 if dtype == torch.bfloat16 else None)


def test_more_dimensions_and_tokens_that_are_not_valid(device):
    """(B, N, S, d) that is not contiguous; other tokens neither enter the memory nor decay it."""
    tensors = [x.unflatten(0, (1, 2)) for x in draw(device, 2, 20, 8)]
    tensors[0] = tensors[0].transpose(1, 2).contiguous().transpose(1, 2)
    valid = torch.ones(1, 1, 20, dtype=torch.bool, device=device)
    valid[..., 7:11] = False
    ours = mlstm(*tensors, valid=valid, form='triton', chunk=16)
    expected = mlstm(*(x.double() for x in tensors), valid=valid, form='parallel')
    kept = valid[0, 0]
    torch.testing.assert_close(ours[:, :, kept].double(), expected[:, :, kept], atol=1e-5, rtol=1e-4)


def test_an_empty_batch(device):
    found = gradients(lambda *x: mlstm(*x, form='triton'), draw(device, 0, 70, 8), torch.empty(0, 70, 8))
    assert [x.shape[0] for x in found] == [0] * 6


def test_autocast(device):
    tensors = draw(device, 1, 20, 8)
    with torch.autocast(device, torch.bfloat16):
        out = mlstm(tensors[0].bfloat16(), *tensors[1:], form='triton', chunk=16)
    assert out.dtype == torch.bfloat16
    assert relative_error(out, mlstm(*(x.double() for x in tensors), form='parallel')) < 0.04


def test_operator_registration(device):
    tensors = [x.requires_grad_() for x in draw(device, 1, 5, 4)]
    torch.library.opcheck(torch.ops.vitdet_plugin.mlstm_triton.default, (*tensors, 16),
                          test_utils=('test_schema', 'test_autograd_registration', 'test_faketensor'))
