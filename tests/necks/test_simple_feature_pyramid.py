"""The pyramid compared with its description, level by level."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.norm import LayerNorm2d
from vitdet_plugin.necks.simple_feature_pyramid import SimpleFeaturePyramid


def pyramid(**kwargs):
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(**{'in_channels': 16, 'out_channels': 8, **kwargs})
    for p in neck.parameters():
        nn.init.normal_(p, std=0.3)
    return neck


def layer_norm(x, weights, name):
    out = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], weights[f'{name}.weight'], weights[f'{name}.bias'], 1e-6)
    return out.permute(0, 3, 1, 2)


def by_description(neck, x):
    """p2: deconvolution, norm, GELU, deconvolution; p3: deconvolution; p4: x; p5: max-pooled; p6: p5 subsampled."""
    weights = dict(neck.state_dict())

    def deconv(x, name):
        return F.conv_transpose2d(x, weights[f'{name}.weight'], weights[f'{name}.bias'], stride=2)

    p2 = deconv(F.gelu(layer_norm(deconv(x, 'levels.0.resize.0'), weights, 'levels.0.resize.1')), 'levels.0.resize.3')
    outs = []
    for i, level in enumerate([p2, deconv(x, 'levels.1.resize.0'), x, F.max_pool2d(x, 2)]):
        for name, padding in ((f'levels.{i}.lateral', 0), (f'levels.{i}.output', 1)):
            level = layer_norm(F.conv2d(level, weights[f'{name}.conv.weight'], padding=padding), weights, f'{name}.ln')
        outs.append(level)
    return [*outs, outs[-1][:, :, ::2, ::2]]


@pytest.mark.parametrize('hw', [(4, 4), (6, 10), (5, 7)])
def test_equals_the_description(hw):
    neck, x = pyramid(), torch.randn(2, 16, *hw)
    outs, expected = neck((torch.zeros(1), x)), by_description(neck, x)
    assert isinstance(outs, tuple) and len(outs) == 5
    for out, level in zip(outs, expected):
        torch.testing.assert_close(out, level, atol=1e-4, rtol=1e-4)


def test_every_parameter_receives_a_gradient():
    neck = pyramid()
    sum((out * torch.randn_like(out)).sum() for out in neck([torch.randn(1, 16, 4, 4)])).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in neck.parameters())
    biases = {name for name in neck.state_dict() if name.endswith('conv.bias')}
    assert not biases  # a norm follows each of these convolutions


@pytest.mark.parametrize('num_outs', [4, 5, 6])
def test_num_outs(num_outs):
    outs = pyramid(num_outs=num_outs)([torch.randn(1, 16, 8, 8)])
    assert [out.shape[-1] for out in outs] == [32, 16, 8, 4, 2, 1][:num_outs]


def test_scale_factors_set_the_levels():
    outs = pyramid(scale_factors=(8, 1, 0.25))([torch.randn(1, 16, 8, 8)])
    assert [out.shape[-1] for out in outs] == [64, 8, 2, 1]


def test_group_norm_of_easycv_gives_different_results():
    group, layer = pyramid(norm_cfg=dict(type='GN', num_groups=1)), pyramid()
    assert any(isinstance(m, nn.GroupNorm) for m in group.modules())
    assert not any(isinstance(m, LayerNorm2d) for m in group.modules())
    group.load_state_dict({k.replace('.ln.', '.gn.'): v for k, v in layer.state_dict().items()})
    x = [torch.randn(1, 16, 4, 4)]
    assert (group(x)[0] - layer(x)[0]).abs().max() > 0.01


def test_default_norm_uses_the_references_eps():
    assert {m.eps for m in SimpleFeaturePyramid(16, 8).modules() if isinstance(m, LayerNorm2d)} == {1e-6}


def test_built_by_name_in_every_dtype():
    neck = MODELS.build(dict(type='SimpleFeaturePyramid', in_channels=16, out_channels=8))
    for dtype in (torch.float64, torch.bfloat16):
        assert {out.dtype for out in neck.to(dtype)([torch.randn(1, 16, 4, 4, dtype=dtype)])} == {dtype}


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(num_outs=3), 'num_outs=3 is less than the 4 scale factors'),
    (dict(scale_factors=(3,)), 'contains 3, which is not a power of two'),
    (dict(scale_factors=(0.75,)), 'contains 0.75, which is not a power of two'),
    (dict(scale_factors=(0,)), 'contains 0, which is not a power of two'),
    (dict(out_channels=0), 'out_channels=0 must be'), (dict(scale_factors=3), 'scale_factors=3 must be a list'),
    (dict(scale_factors=()), r'scale_factors=\(\) must be a list'),
    (dict(in_channels=[8, 8]), 'has 2 entries for 4 scale factors'),
])
def test_invalid_arguments_are_an_error(kwargs, message):
    with pytest.raises(UserError, match=message):
        pyramid(**kwargs)


def test_each_level_from_its_own_map():
    torch.manual_seed(0)
    several, maps = pyramid(in_channels=[16, 16, 8, 8]), [torch.randn(1, c, 4, 4) for c in (16, 16, 8, 8)]
    outs = several(maps)
    assert [tuple(out.shape[1:]) for out in outs] == [(8, 16, 16), (8, 8, 8), (8, 4, 4), (8, 2, 2), (8, 1, 1)]
    for level in range(4):
        changed = several([x + (i == level) * torch.randn_like(x) for i, x in enumerate(maps)])
        assert [not torch.equal(a, b) for a, b in zip(outs, changed)][:4] == [i == level for i in range(4)]
    with pytest.raises(UserError, match='the backbone returns 1 maps, but in_channels has 4 entries'):
        several(maps[:1])
    with pytest.raises(UserError, match='a map of 7 channels, but the neck has in_channels=16; set .* to 7'):
        pyramid()([torch.rand(1, 7, 4, 4)])
