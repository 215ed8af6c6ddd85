"""The layer: official names and initial values, every geometry, and the official package's module name."""

import pytest
import torch

import ops_dcnv3
from ops_dcnv3 import DCNv3

NAMES = {'dw_conv.0.weight', 'dw_conv.0.bias', 'dw_conv.1.1.weight', 'dw_conv.1.1.bias', 'offset.weight', 'offset.bias',
         'mask.weight', 'mask.bias', 'input_proj.weight', 'input_proj.bias', 'output_proj.weight', 'output_proj.bias'}


def randomized(**kwargs):
    torch.manual_seed(0)
    module = DCNv3(**kwargs)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def test_official_names_and_shapes():
    state = DCNv3(32, group=4).state_dict()
    assert set(state) == NAMES
    assert state['offset.weight'].shape == (72, 32)
    assert state['mask.weight'].shape == (36, 32)
    extra = DCNv3(32, kernel_size=5, pad=2, center_feature_scale=True, remove_center=True, norm_layer='BN').state_dict()
    assert extra['center_feature_scale_proj_weight'].shape == (4, 32)
    assert extra['mask.weight'].shape == (24 * 4, 32)
    assert 'dw_conv.1.0.running_mean' in extra


def test_is_initialized_as_an_average_of_the_neighborhood():
    module = DCNv3(8, group=2)
    x = torch.randn(1, 6, 7, 8)
    value = torch.nn.functional.avg_pool2d(module.input_proj(x).permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(module(x), module.output_proj(value), atol=1e-5, rtol=1e-4)


def test_official_names_of_the_package():
    from ops_dcnv3 import modules as opsm
    assert opsm.DCNv3 is DCNv3
    slow = opsm.DCNv3_pytorch(8, group=2)
    slow.load_state_dict(DCNv3(8, group=2).state_dict())
    assert slow(torch.randn(1, 5, 5, 8)).shape == (1, 5, 5, 8)
    assert ops_dcnv3.modules is opsm


@pytest.mark.parametrize(('kwargs', 'out'), [
    (dict(stride=2), (5, 4)), (dict(pad=0), (7, 6)), (dict(pad=2, dilation=2), (9, 8)),
    (dict(kernel_size=5, dw_kernel_size=3, pad=2), (9, 8)), (dict(dw_kernel_size=5), (9, 8)),
    (dict(kernel_size=2, pad=1), (10, 9)), (dict(stride=3, center_feature_scale=True), (3, 3)),
    (dict(norm_layer='BN', act_layer='SiLU'), (9, 8)), (dict(remove_center=True, offset_scale=2.0), (9, 8))])
def test_offsets_fit_outputs_for_every_geometry(kwargs, out):
    module = randomized(channels=8, group=2, **kwargs)
    x = torch.randn(2, 9, 8, 8, requires_grad=True)
    result = module(x)
    assert result.shape == (2, *out, 8)
    result.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(channels=9, group=2), 'channels 9 is not a multiple of group 2'),
    (dict(channels=8, dw_kernel_size=4), 'must be odd'),
    (dict(channels=8, kernel_size=4, remove_center=True), 'odd kernel_size'),
    (dict(channels=8, center_feature_scale=True, pad=0), 'needs pad 1, not 0'),
    (dict(channels=8, act_layer='Mish'), "act_layer 'Mish' is unknown; choose one of GELU"),
    (dict(channels=8, norm_layer='GN'), "norm_layer 'GN' is unknown; choose one of LN, BN")])
def test_errors_name_the_argument(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DCNv3(**kwargs)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_trains(dtype):
    module = randomized(channels=16, group=2)
    x = torch.randn(2, 8, 9, 16)
    exact = module(x)
    with torch.autocast('cpu', dtype):
        out = module(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.1)
    out.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
