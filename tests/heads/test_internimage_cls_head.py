"""InternImage's heads compared with their formulas."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from tests.backbones.registered import disturb
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.internimage_cls_head import InternImageClipHead, InternImageClsHead


def test_cls_head_is_conv_norm_gelu_mean_linear():
    torch.manual_seed(0)
    head = disturb(InternImageClsHead(5, 8)).eval()
    head.norm.running_mean.normal_()
    x = torch.randn(2, 8, 3, 4)
    normed = (F.conv2d(x, head.conv.weight) - head.norm.running_mean.view(1, -1, 1, 1)) / (1 + 1e-5) ** 0.5
    normed = normed * head.norm.weight.view(1, -1, 1, 1) + head.norm.bias.view(1, -1, 1, 1)
    expected = F.gelu(normed).mean((2, 3)) @ head.fc.weight.T + head.fc.bias
    torch.testing.assert_close(head((torch.randn(2, 4, 6, 8), x)), expected)
    assert head.conv.weight.shape == (12, 8, 1, 1)


def test_clip_head_attends_from_the_mean():
    torch.manual_seed(0)
    head = disturb(InternImageClipHead(5, (4, 8), embed_dim=6, clip_dim=3, num_heads=2)).double().eval()
    x3, x4 = torch.randn(2, 4, 4, 6).double(), torch.randn(2, 8, 2, 3).double()
    with torch.no_grad():
        tokens = (head.x3_proj(x3) + F.pixel_shuffle(head.x4_proj(x4), 2)).flatten(2).transpose(1, 2)
        pool = head.pool
        mean = tokens.mean(1, keepdim=True)
        q, k, v = (project(F.layer_norm(x, (6,), norm.weight, norm.bias, eps=1e-6)) for project, norm, x in (
            (pool.q, pool.norm_q, mean), (pool.k, pool.norm_k, tokens), (pool.v, pool.norm_v, tokens)))
        parts = [(q[..., s] @ k[..., s].transpose(1, 2) / 3 ** 0.5).softmax(-1) @ v[..., s]
                 for s in (slice(0, 3), slice(3, 6))]
        expected = head.fc(head.norm(pool.proj(torch.cat(parts, 2)[:, 0])))
        torch.testing.assert_close(head((x3, x4)), expected, rtol=1e-9, atol=1e-9)


def test_clip_head_of_an_odd_map():
    head = InternImageClipHead(5, (4, 8), embed_dim=8, num_heads=2)
    assert head((torch.randn(1, 4, 5, 3), torch.randn(1, 8, 3, 2))).shape == (1, 5)


@pytest.mark.parametrize(('cfg', 'feats'), [
    (dict(type='InternImageClsHead', num_classes=5, in_channels=8), [(2, 8, 2, 2)]),
    (dict(type='InternImageClipHead', num_classes=5, in_channels=(4, 8), embed_dim=8, num_heads=2),
     [(2, 4, 4, 4), (2, 8, 2, 2)])])
def test_every_parameter_learns(cfg, feats):
    head = MODELS.build(cfg)
    head.init_weights()
    assert not head.fc.bias.any() and head.fc.weight.std().item() == pytest.approx(0.02, rel=0.5)
    F.cross_entropy(disturb(head)([torch.randn(shape) for shape in feats]), torch.tensor([1, 3])).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())


@pytest.mark.parametrize(('options', 'message'), [
    (dict(num_classes=-1), 'num_classes=-1 must be a whole number of at least 0'),
    (dict(in_channels='a'), "in_channels='a' must be a whole number"),
    (dict(cls_scale=None), 'cls_scale=None must be a number of at least 0.125'),
    (dict(cls_scale=0), 'cls_scale=0 must')])
def test_invalid_arguments(options, message):
    with pytest.raises(UserError, match=message):
        InternImageClsHead(**{**dict(num_classes=5, in_channels=8), **options})
