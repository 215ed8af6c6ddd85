"""Feature pyramid of Sense-X's ViT."""

import pytest
import torch
import torch.nn.functional as F

from vitdet_plugin.errors import UserError
from vitdet_plugin.necks.conv_feature_pyramid import ConvFeaturePyramid


def norm(x, state, name):
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    weight, bias = (state[f'{name}.{leaf}'][:, None, None] for leaf in ('weight', 'bias'))
    return (x - mean) / (var + 1e-6).sqrt() * weight + bias


def test_equal_to_its_definition():
    torch.manual_seed(0)
    neck = ConvFeaturePyramid(16, 8).eval()
    for parameter in neck.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    x = torch.randn(1, 16, 6, 10)
    resized = [F.interpolate(x, scale_factor=2, mode='nearest')] * 2 + [x] + [F.max_pool2d(x, 3, 2, 1)] * 2
    with torch.no_grad():
        found = neck((torch.zeros(1, 3, 2, 2), x))
    assert [tuple(each.shape[2:]) for each in found] == [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
    for out, start, middle, level in zip(found, resized, (2, 1, 0, 0, 1), neck.levels):
        state, index = level.state_dict(), 1 if start is not x else 0
        for k in range(middle):
            options = dict(padding=1, stride=2 if level is neck.levels[4] else 1)
            start = F.gelu(norm(F.conv2d(start, state[f'{index}.weight'], **options), state, f'{index + 1}'))
            if k + 1 < middle:
                start = start.repeat_interleave(2, 2).repeat_interleave(2, 3)
            index += 4 if k + 1 < middle else 3
        lateral = F.gelu(norm(F.conv2d(start, state[f'{index}.weight']), state, f'{index + 1}'))
        expected = norm(F.conv2d(lateral, state[f'{index + 3}.weight'], padding=1), state, f'{index + 4}')
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_errors():
    with pytest.raises(UserError, match='contains 3, which is not a power of two'):
        ConvFeaturePyramid(16, scale_factors=(3, 1))
    with pytest.raises(UserError, match='a map of 8 channels, but the neck has in_channels=16'):
        ConvFeaturePyramid(16, 8, (1,))([torch.zeros(1, 8, 4, 4)])
