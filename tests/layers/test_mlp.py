"""The chunked MLP equals timm's, and computes the hidden features of at most 512 tokens at a time."""

import pytest
import timm.layers
import torch

from vitdet_plugin.layers.mlp import Mlp


@pytest.fixture
def mlps():
    torch.manual_seed(0)
    ours = Mlp(12, 40)
    timms = timm.layers.Mlp(12, 40)
    timms.load_state_dict(ours.state_dict())
    return ours, timms


@pytest.mark.parametrize('shape', [(7, 12), (1300, 12), (2, 19, 31, 12), (512, 12), (0, 12)])
@pytest.mark.parametrize('training', [False, True])
def test_equals_timm(mlps, shape, training):
    x = torch.randn(shape, requires_grad=training)
    with torch.set_grad_enabled(training):
        found, expected = (mlp(x) for mlp in mlps)
    torch.testing.assert_close(found, expected)
    if training:
        torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in (found, expected)))


def test_no_more_than_512_hidden_rows_without_gradients(mlps):
    rows = []
    mlps[0].fc1.register_forward_hook(lambda module, inputs, out: rows.append(len(out.flatten(0, -2))))
    with torch.no_grad():
        mlps[0](torch.randn(3, 500, 12))
    assert rows == [512, 512, 476]
    mlps[0](torch.randn(3, 500, 12))
    assert rows[3:] == [1500]


def test_transposed_input_and_autocast(mlps):
    x = torch.randn(2, 12, 30, 20).permute(0, 2, 3, 1)
    with torch.no_grad():
        torch.testing.assert_close(mlps[0](x), mlps[1](x))
        with torch.autocast('cpu', torch.bfloat16):
            assert mlps[0](x).dtype == torch.bfloat16


def test_exports_with_any_number_of_tokens(mlps):
    with torch.no_grad():
        exported = torch.export.export(mlps[0].eval(), (torch.randn(600, 12),),
                                       dynamic_shapes=({0: torch.export.Dim('n', min=2)},), strict=False)
        x = torch.randn(1700, 12)
        torch.testing.assert_close(exported.module()(x), mlps[1](x))
