"""VOLO: published sizes, equality with timm's model, output maps, positions, exchanged tokens."""

import pytest
import torch
from timm.layers import DropPath
from timm.models.volo import VOLO as Peer
from torch import nn

from tests.backbones.registered import disturb, image, tiny
from vitdet_plugin.backbones.volo import ARCHS, VOLO, MixedImages, paste_reversed
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.volo_cls_head import VOLOClsHead
from vitdet_plugin.layers.pos_embed import resize_grid

SIZES = dict(layers=(2, 1, 1, 1), embed_dims=(16, 32, 32, 32), num_heads=(2, 4, 4, 4), stem_hidden_dim=8)
ARCH = dict(SIZES, mlp_ratios=(3, 3, 3, 3))


def head(num_classes=7, **kwargs):
    return VOLOClsHead(num_classes, 32, 4, dense=True, **kwargs)


def under_official_names(backbone, cls_head):
    names = {f'head.{kind}': f'fc.{kind}' for kind in ('weight', 'bias')}
    own = cls_head.state_dict()
    rest = {name: value for name, value in own.items() if not name.startswith('fc.')}
    return {**backbone.state_dict(), **rest, **{official: own[name] for official, name in names.items()}}


@pytest.mark.parametrize(('name', 'millions'), [('d1', 26.63), ('d2', 58.68), ('d3', 86.33), ('d4', 192.96),
                                                ('d5', 295.46)])
def test_published_sizes(name, millions):
    sizes = ARCHS[name]
    with torch.device('meta'):
        parts = VOLO(name), VOLOClsHead(1000, sizes['embed_dims'][-1], sizes['num_heads'][-1],
                                        mlp_ratio=sizes['mlp_ratios'][-1], dense=True)
    assert sum(p.numel() for part in parts for p in part.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize('variant', [dict(), dict(qkv_bias=True, post_layers=('ca',)), dict(img_size=(64, 96)),
                                     dict(downsamples=(True, True, False, False), pooling_scale=2)])
def test_equals_timms_volo(variant):
    """Outputs and every gradient, in float64; timm's names are the official ones."""
    torch.manual_seed(0)
    size = variant.get('img_size', (64, 64))
    peer = disturb(Peer(**{**dict(num_classes=7, img_size=64), **SIZES, **variant})).double().eval()
    bias = dict(qkv_bias=variant.get('qkv_bias', False))
    backbone = VOLO(ARCH, img_size=size, downsamples=variant.get('downsamples', (True, False, False, False)), **bias)
    cls_head = head(depth=len(variant.get('post_layers', 'ab')), **bias)
    ours = torch.nn.ModuleDict(dict(backbone=backbone, cls_head=cls_head)).double().eval()
    state = under_official_names(backbone, cls_head)
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in peer.state_dict().items()}
    with torch.no_grad():
        for name, value in peer.state_dict().items():
            state[name].copy_(value)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    out, expected = cls_head(backbone(x)), peer(x)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=1e-10)
    direction = torch.randn_like(out)
    out.backward(direction)
    expected.backward(direction)
    gradients = {name: value.grad for name, value in peer.named_parameters()}
    own = {**dict(backbone.named_parameters()), **dict(cls_head.named_parameters())}
    for name, parameter in own.items():
        official = f'head.{name.split(".")[1]}' if name.startswith('fc.') else name
        torch.testing.assert_close(parameter.grad, gradients[official], atol=1e-9, rtol=1e-9, msg=name)
    assert len(ours.state_dict()) == len(peer.state_dict())


def test_any_size_is_padded_with_zeros():
    model = disturb(VOLO(ARCH, img_size=64, out_indices=(0, 1, 2))).eval()
    x = torch.randn(1, 3, 50, 71)
    padded = torch.nn.functional.pad(x, (0, 9, 0, 14))
    with torch.no_grad():
        outs = model(x)
        assert all(torch.equal(a, b) for a, b in zip(outs, model(padded)))
    assert [tuple(out.shape[2:]) for out in outs] == [(8, 10), (4, 5), (2, 3)]


def test_positions_are_resized_to_the_grid_square_or_not():
    model = disturb(VOLO(ARCH, img_size=(64, 96)))
    assert model.pos_embed.shape == (1, 4, 6, 32)
    assert resize_grid(model.pos_embed, (4, 6)) is model.pos_embed
    assert resize_grid(model.pos_embed, (7, 3)).shape == (1, 7, 3, 32)
    ramp = torch.linspace(0, 1, 4).view(1, 4, 1, 1).expand(1, 4, 6, 32)
    with torch.no_grad():
        model.pos_embed.copy_(ramp)
        rows = resize_grid(model.pos_embed, (8, 6))[0, :, 0, 0]
    assert (rows.diff() > 0).all() and torch.allclose(rows[3] + rows[4], torch.tensor(1.0), atol=1e-5)


def test_drop_path_rises_over_all_blocks_except_the_outlookers():
    model = VOLO(ARCH, drop_path_rate=0.4)
    blocks = [block for part in model.network if isinstance(part, torch.nn.Sequential) for block in part]
    rates = [block.drop_path.drop_prob if isinstance(block.drop_path, DropPath) else 0.0 for block in blocks]
    assert rates == pytest.approx([0, 0, 0.2, 0.3, 0.4])


def test_output_maps():
    raw = VOLO(ARCH)
    assert raw.out_norms is None and raw.extra_level is None and raw.out_strides == (16,)
    pooled = disturb(VOLO(ARCH, out_indices=(0, 1, 2)))
    assert pooled.out_channels == (16, 32, 32) and pooled.out_strides == (8, 16, 32) and len(pooled.out_norms) == 3
    missing = pooled.load_state_dict(raw.state_dict(), strict=False)
    assert all(name.startswith('out_norms.') for name in missing.missing_keys) and not missing.unexpected_keys
    with torch.no_grad():
        for norm in pooled.out_norms:
            norm.reset_parameters()
        x = image(pooled)
        for out in pooled.eval()(x):
            torch.testing.assert_close(out.mean(1), torch.zeros_like(out[:, 0]), atol=1e-4, rtol=0)
        last, coarse = VOLO(ARCH, out_indices=(1, 2), out_norm=False).eval()(x)
        torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(last, 2))


def test_frozen_stages_include_their_downsampling():
    model = tiny(VOLO, frozen_stages=1)
    trainable = {'.'.join(name.split('.')[:2]) for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {'network.2', 'network.3', 'network.4', 'extra_level.weight', 'extra_level.bias', 'out_norms.0',
                         'out_norms.1', 'out_norms.2'}


def test_layer_ids_count_blocks():
    model = tiny(VOLO)
    ids = [model.get_layer_id(name) for name in (
        'patch_embed.proj.weight', 'network.0.0.norm1.weight', 'network.0.1.attn.v.weight', 'network.1.proj.weight',
        'network.2.0.attn.qkv.weight', 'network.3.1.mlp.fc1.bias', 'network.4.0.norm2.bias', 'out_norms.0.weight')]
    assert ids == [0, 1, 2, 3, 3, 5, 6, 7] and model.num_layers == 6


def test_norm_eval_keeps_the_statistics():
    for norm_eval in (True, False):
        model = tiny(VOLO, norm_eval=norm_eval).train()
        before = model.patch_embed.conv[1].running_mean.clone()
        model(image(model))
        assert torch.equal(model.patch_embed.conv[1].running_mean, before) == norm_eval
        synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
        assert synchronized.patch_embed.conv[1].training != norm_eval


@torch.no_grad()
def test_hooks_of_the_stem_are_called_at_inference():
    model, seen = VOLO(ARCH).eval(), []
    stem = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    expected = model(image(model))[-1]
    stem.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    torch.testing.assert_close(model(image(model))[-1], expected, atol=1e-5, rtol=1e-4)
    assert seen == [stem.num_features]


def test_tokens_of_mixed_images_are_exchanged_after_the_stem():
    model = disturb(VOLO(ARCH, norm_eval=True))
    x = image(model, 6, 6)
    top, bottom, left, right = box = (1, 4, 2, 6)
    (mixed,) = model(MixedImages(x, box))
    tokens = paste_reversed(model.patch_embed(x), 2 * top, 2 * bottom, 2 * left, 2 * right)
    expected = tokens
    for index, part in enumerate(model.network):
        expected = part(expected + resize_grid(model.pos_embed, expected.shape[1:3]) if index == 2 else expected)
    torch.testing.assert_close(mixed, expected.permute(0, 3, 1, 2))
    assert not torch.allclose(mixed, model(x)[0])


def test_pasting_twice_restores_the_tokens():
    x = torch.randn(3, 4, 5, 2)
    once = paste_reversed(x, 1, 3, 0, 2)
    assert torch.equal(once[:, 1:3, :2], x.flip(0)[:, 1:3, :2]) and torch.equal(once[:, 0], x[:, 0])
    assert torch.equal(paste_reversed(once, 1, 3, 0, 2), x)


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(arch='d6'), "arch='d6' is unknown; choose one of d1, d2, d3, d4, d5"),
    (dict(arch=dict(layers=(1,))), 'arch requires the keys layers'),
    (dict(out_indices=(0,)), 'neither 1 nor 2'), (dict(out_indices=(2, 1)), 'ascending'),
    (dict(extra_level='max'), 'choose one of pool, conv'), (dict(frozen_stages=5), 'must be from -1 to 4'),
    (dict(downsamples=(True,)), r'downsamples=\(True,\) must be a list of length 4'),
    (dict(downsamples=(False,) * 4), 'must be True for the first stage'), (dict(img_size=8), 'img_size=8 must be'),
    (dict(outlook_attention=(True,)), 'outlook_attention=.* must be a list of length 4'),
    (dict(outlook_attention=(1, 0, 0, 0)), 'outlook_attention=.* must be a list of True and False'),
    (dict(outlook=dict(kernel=3)), "outlook={'kernel': 3} must be a dict; it takes form, kernel_size, stride,"),
    (dict(outlook=dict(kernel_size=0)), 'kernel_size=0 must be a whole number of at least 1'),
    (dict(arch={**ARCH, 'embed_dims': (32, 48, 48, 64)}), 'arch.embed_dims=.* must be equal from the second stage on'),
    (dict(arch={**ARCH, 'num_heads': (2, 4, 4, 0)}), 'arch.num_heads=.* must be a list of 4 whole numbers'),
    (dict(patch_size=7), 'must be even'), (dict(mix_token=True), 'MixTokenDataPreprocessor')])
def test_invalid_arguments_are_an_error(arguments, message):
    with pytest.raises(UserError, match=message):
        VOLO(**{**dict(arch=ARCH), **arguments})
