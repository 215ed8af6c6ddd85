"""Outlook attention by Triton against unfold, softmax and fold in float64."""

import pytest
import torch

from tests.devices import requires_triton
from tests.ops.kernels.comparison import assert_same, gradients
from vitdet_plugin.errors import UserError
from vitdet_plugin.ops.outlook_attention import outlook_attention

pytestmark = requires_triton


def draw(device, batch=1, size=(5, 6), heads=2, dim=4, stride=2, padding=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(size))
    rows, columns = ((n + 2 * padding - 3) // stride + 1 for n in size)
    shapes = [(batch, *size, heads * dim), (batch, rows, columns, heads * 81)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def functions(heads=2, **options):
    """Return the operator by Triton and the reference, as functions of the two tensors."""
    return [lambda v, a, form=form: outlook_attention(v, a, heads, scale=0.7, form=form, **options)
            for form in ('triton', 'plain')]


@pytest.mark.parametrize('options', [
    dict(size=(4, 7), dim=5), dict(stride=1, heads=1, size=(3, 2)), dict(stride=4, padding=0, size=(6, 3), heads=1)],
    ids=str)
def test_output_and_gradients(device, options):
    """Also where windows do not cover all pixels, so that some of the output is zero."""
    heads, stride, padding = options.get('heads', 2), options.get('stride', 2), options.get('padding', 1)
    assert_same(*functions(heads, stride=stride, padding=padding), draw(device, **options))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    assert_same(*functions(1), draw(device, size=(3, 4), heads=1, dim=16, dtype=dtype))


def test_tensors_of_other_layouts(device):
    drawn = draw(device, size=(3, 2), heads=1)
    assert_same(*functions(1), [x.transpose(1, 2).contiguous().transpose(1, 2) for x in drawn])


def test_an_empty_batch(device):
    found = gradients(functions()[0], draw(device, batch=0), torch.empty(0, 5, 6, 8))
    assert [x.shape[0] for x in found] == [0] * 3


def test_operator_registration(device):
    tensors = [x.requires_grad_() for x in draw(device, batch=1, size=(2, 3), heads=1)]
    torch.library.opcheck(torch.ops.vitdet_plugin.outlook_attention_triton.default, (*tensors, 1, 2, 1, 0.7),
                          test_utils=('test_schema', 'test_autograd_registration', 'test_faketensor'))


def test_what_it_cannot_serve_is_an_error(device):
    v, _ = draw(device)
    with pytest.raises(UserError, match='serves kernel_size=3 without dropout, not 5 with 0.0'):
        outlook_attention(v, torch.zeros(2, 3, 3, 2 * 625, device=device), 2, kernel_size=5, padding=2, form='triton')
