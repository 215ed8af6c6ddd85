"""TimmViTDet trained in part: LoRA for every family, freezing as a whole, and cached features of a frozen network."""

import copy

import pytest
import torch

from tests.backbones.registered import disturb
from tests.backbones.test_timm_vitdet import MODELS, NARROW, build, images
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError

PROBE = dict(window_size=0, out_type='cls_avg', frozen_stages=2)


@pytest.mark.parametrize('model', MODELS)
def test_lora_changes_the_outputs_gets_gradients_and_merges(model):
    plain, net = build(model, window_size=3), build(model, window_size=3, lora=dict(rank=2))
    x = images(net)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith('lora_b'):
                parameter.zero_()
        plain.load_state_dict(net.state_dict(), strict=False)
        torch.testing.assert_close(net(x), plain(x), atol=1e-5, rtol=1e-5)
    disturb(net)
    net(x)[0].square().sum().backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained and all('.lora_' in name for name in trained)
    assert all(p.grad is not None and p.grad.any() for p in net.parameters() if p.requires_grad)
    with torch.no_grad():
        expected = net(x)
        net.merge_lora()
        torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
    assert net.state_dict().keys() == plain.state_dict().keys()


def test_lora_leaves_frozen_blocks_alone_and_starts_from_weights_without_it(tmp_path):
    torch.save(build('vit_small_patch14_reg4_dinov2').net.state_dict(), tmp_path / 'official.pth')
    net = TimmViTDet('vit_small_patch14_reg4_dinov2', model_args=MODELS['vit_small_patch14_reg4_dinov2'],
                     frozen_stages=1, lora=dict(rank=2, parts='attn'),
                     init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'official.pth')))
    net.init_weights()
    assert {name.rpartition('.')[0] for name, p in net.train().named_parameters() if p.requires_grad} == {
        'net.blocks.1.attn.qkv', 'net.blocks.1.attn.proj'}
    official = torch.load(tmp_path / 'official.pth')
    assert torch.equal(net.net.blocks[1].attn.qkv.weight, official['blocks.1.attn.qkv.weight'])
    assert not net.net.blocks[1].attn.qkv.lora_b.any() and net.net.blocks[1].attn.qkv.lora_scale == 2


def test_a_checkpoint_with_lora_loads_with_and_without_it(tmp_path):
    net = build('vit_small_patch14_dinov2', lora=dict(rank=2, alpha=3.0))
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in net.state_dict().items()}),
               tmp_path / 'lora.pth')
    x = images(net)
    convert_checkpoint(tmp_path / 'lora.pth', tmp_path / 'merged.safetensors')
    same = dict(lora=dict(rank=2, alpha=3.0))
    for file, options in (('lora.pth', same), ('lora.pth', {}), ('merged.safetensors', {})):
        other = TimmViTDet('vit_small_patch14_dinov2', model_args=MODELS['vit_small_patch14_dinov2'], **options).eval()
        load_official(other, tmp_path / file, allow_missing=False)
        torch.testing.assert_close(other(x), net(x), atol=1e-5, rtol=1e-5)


def test_frozen_as_a_whole_the_last_norm_is_frozen_too():
    net = build('vit_small_patch14_dinov2', **PROBE).train()
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not any(module.training for part in (*net.net.blocks, net.net.norm, net.net.pos_drop)
                   for module in part.modules())


def test_cached_features(tmp_path):
    plain, net = (build('vit_small_patch14_dinov2', **PROBE, **options)
                  for options in ({}, dict(feature_cache=str(tmp_path))))
    x = images(net)
    expected = plain(x)
    for _ in range(2):
        for mode in (True, False):
            torch.testing.assert_close(net.train(mode)(x), expected, atol=1e-6, rtol=1e-6)
    assert (net.feature_cache.misses, net.feature_cache.hits) == (2, 6)
    # another process reads the features, in another order, and computes new ones
    other = copy.deepcopy(build('vit_small_patch14_dinov2', **PROBE, feature_cache=str(tmp_path)))
    more = torch.cat([torch.zeros_like(x[:1]), x.flip(0)])
    torch.testing.assert_close(other(more), plain(more), atol=1e-6, rtol=1e-6)
    assert (other.feature_cache.misses, other.feature_cache.hits) == (1, 2)


def test_cached_features_of_other_weights_settings_or_precision_are_not_used(tmp_path):
    net = build('vit_small_patch14_dinov2', **PROBE, feature_cache=str(tmp_path))
    x = images(net)
    first = net(x)[0]
    with torch.autocast('cpu', torch.bfloat16):
        assert not torch.equal(net(x)[0], first)
    net.load_state_dict({name: value * 1.1 for name, value in net.state_dict().items()})
    assert not torch.allclose(net(x)[0], first)
    other = build('vit_small_patch14_dinov2', **PROBE, positions='bicubic', feature_cache=str(tmp_path))
    other(x)
    assert net.feature_cache.hits == other.feature_cache.hits == 0


def test_cached_features_are_bypassed_where_the_computation_itself_is_needed(tmp_path):
    net = build('vit_small_patch14_dinov2', **PROBE, feature_cache=str(tmp_path))
    x, seen = images(net), []
    net(x)
    handle = net.net.blocks[1].mlp.register_forward_hook(lambda *args: seen.append(1))
    net(x)
    handle.remove()
    assert seen
    net(x.requires_grad_())[0].sum().backward()
    assert x.grad.any()


@pytest.mark.parametrize(('options', 'message'), [
    (dict(lora=dict(rank=2), frozen_stages=2), 'no block is left to train'),
    (dict(lora=dict(rnk=2)), 'its keys are rank, alpha, parts and dropout'),
    (dict(lora=dict(alpha=2)), 'its keys are rank'),
    (dict(feature_cache='x', out_type='cls_avg'), "set frozen_stages=2 and out_type='cls_avg'"),
    (dict(feature_cache='x', frozen_stages=2), "set frozen_stages=2 and out_type='cls_avg'"),
])
def test_wrong_arguments(options, message):
    with pytest.raises(UserError, match=message):
        TimmViTDet('vit_tiny_patch16_224', model_args=NARROW, **options)
