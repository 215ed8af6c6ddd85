"""OffsetLayerNorm against PyTorch's layer and group norms."""

import torch
import torch.nn.functional as F

from vitdet_plugin.layers.offset_norm import OffsetLayerNorm


def test_normalizes_at_initialization_and_the_weight_is_an_offset():
    norm, x = OffsetLayerNorm(12, eps=1e-3), torch.randn(2, 5, 12)
    torch.testing.assert_close(norm(x), F.layer_norm(x, (12,), eps=1e-3))
    torch.nn.init.constant_(norm.weight, 1.0)
    torch.nn.init.constant_(norm.bias, 0.5)
    torch.testing.assert_close(norm(x), 2 * F.layer_norm(x, (12,), eps=1e-3) + 0.5)


def test_groups_are_normalized_for_each_token():
    norm, x = OffsetLayerNorm(12, groups=3), torch.randn(2, 5, 12)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected = F.group_norm(x.flatten(0, 1), 3, 1 + norm.weight, norm.bias, eps=1e-5).view_as(x)
    torch.testing.assert_close(norm(x), expected)
    bare = OffsetLayerNorm(12, groups=3, bias=False)
    bare.weight = norm.weight
    torch.testing.assert_close(bare(x), expected - norm.bias)
