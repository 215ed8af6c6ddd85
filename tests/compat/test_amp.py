import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from vitdet_plugin.compat import amp
from vitdet_plugin.errors import UserError


def wrapper(parameters, **kwargs):
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    return OPTIM_WRAPPERS.build(dict(type='AutocastOptimWrapper', optimizer=optimizer, **kwargs))


def parameter(value=0.0):
    return nn.Parameter(torch.full((2,), value))


@pytest.mark.parametrize(('dtype', 'expected'), [
    ('bf16', torch.bfloat16), ('bfloat16', torch.bfloat16), (torch.bfloat16, torch.bfloat16),
    ('fp16', torch.float16), ('float16', torch.float16)])
def test_forward_runs_in_the_dtype_and_weights_stay(dtype, expected):
    layer = nn.Linear(3, 2)
    optim = wrapper(layer.parameters(), dtype=dtype, loss_scale=8.0)
    with optim.optim_context(layer):
        out = layer(torch.ones(1, 3))
    assert out.dtype == expected
    optim.update_params(out.float().sum())
    assert layer.weight.dtype == torch.float32
    assert layer(torch.ones(1, 3)).dtype == torch.float32  # the context has ended


def test_clipping_receives_unscaled_gradients():
    p = parameter()
    optim = wrapper([p], dtype='fp16', loss_scale=1024.0, clip_grad=dict(max_norm=1.0))
    optim.update_params((p * torch.tensor([3.0, 4.0])).sum())
    torch.testing.assert_close(p.detach(), torch.tensor([-0.6, -0.8]), atol=1e-5, rtol=0)


@pytest.mark.parametrize('dtype', ['bf16', 'fp16'])
def test_accumulation_equals_one_large_batch(dtype):
    weights = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    one, two = parameter(), parameter()
    whole, halves = wrapper([one], dtype=dtype), wrapper([two], dtype=dtype, accumulative_counts=2)
    halves.initialize_count_status(nn.Module(), 0, 2)
    whole.update_params((weights * one).sum(1).mean())
    halves.update_params((weights[0] * two).sum())
    assert two.tolist() == [0.0, 0.0]
    halves.update_params((weights[1] * two).sum())
    torch.testing.assert_close(two.detach(), one.detach())


def test_an_overflow_skips_the_step_and_lowers_the_scale():
    p = parameter(1.0)
    optim = wrapper([p], dtype='fp16', loss_scale=dict(init_scale=64.0, backoff_factor=0.25))
    optim.update_params(p.sum() * float('inf'))
    assert p.tolist() == [1.0, 1.0]
    assert optim.loss_scaler.get_scale() == 16.0


def test_scaler_state_survives_a_resume():
    p = parameter()
    first, second = wrapper([p], dtype='fp16', loss_scale=64.0), wrapper([p], dtype='fp16')
    first.update_params(p.sum())
    second.load_state_dict(first.state_dict())
    assert second.loss_scaler.state_dict() == first.loss_scaler.state_dict()
    assert second.loss_scaler.get_scale() == 64.0


@pytest.mark.parametrize(('saved', 'resumed'), [('fp16', 'bf16'), ('bf16', 'fp16')])
def test_resuming_in_another_dtype(saved, resumed):
    p = parameter()
    first, second = wrapper([p], dtype=saved), wrapper([p], dtype=resumed)
    first.optimizer.param_groups[0]['lr'] = 0.5
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]['lr'] == 0.5
    second.update_params(p.sum())
    assert p.tolist() == [-0.5, -0.5]


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(dtype='int8'), "mixed precision in 'int8': choose bf16 or fp16"),
    (dict(dtype='fp16', loss_scale='static'), "loss_scale='static': give")])
def test_invalid_arguments_are_reported(kwargs, message):
    with pytest.raises(UserError, match=message):
        amp.AutocastOptimWrapper(optimizer=torch.optim.SGD([parameter()], lr=1.0), **kwargs)
