"""TimmViTDet: equality with timm, attention in windows, prefix tokens, positions, and messages for wrong arguments."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.models import beit

from tests.backbones.registered import disturb
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.timm_blocks import beit_attention
from vitdet_plugin.layers.timm_positions import block_ropes, resize_positions
from vitdet_plugin.ops.rel_pos_attention import cpu

NARROW = dict(depth=2, embed_dim=48, num_heads=3)
MODELS = {
    'vit_small_patch14_dinov2': dict(NARROW, img_size=112),
    'vit_small_patch14_reg4_dinov2': dict(NARROW, img_size=112),
    'vit_giant_patch14_reg4_dinov2': dict(NARROW, img_size=112),  # SwiGLU
    'vit_small_patch16_dinov3_qkvb': NARROW,
    'vit_huge_plus_patch16_dinov3': NARROW,  # SwiGLU
    'eva02_tiny_patch14_224': NARROW,
    'eva_giant_patch14_224': NARROW,
    'vit_base_patch16_224': NARROW,  # MAE and many others
    'deit3_small_patch16_224': NARROW,
    'deit_tiny_distilled_patch16_224': NARROW,
    'vit_base_patch16_clip_224': NARROW,
    'vit_base_patch16_siglip_224': NARROW,
    'vit_pe_core_tiny_patch16_384': NARROW,  # Perception Encoder
    'vit_base_patch16_rope_reg1_gap_256': NARROW,
    'vit_small_patch16_rope_mixed_224': NARROW,  # rotary embeddings of each block and head
    'flexivit_small': NARROW,
    'beit_base_patch16_224': dict(NARROW, img_size=64),
    'beitv2_base_patch16_224': dict(NARROW, img_size=64),
}
every_model = pytest.mark.parametrize('model', MODELS)


@pytest.mark.parametrize('half', [False, True])
@pytest.mark.parametrize('model', ['vit_small_patch14_reg4_dinov2', 'eva02_tiny_patch14_224'])
def test_inference_uses_the_compiled_attention(model, half, monkeypatch):
    if 'float32' not in cpu.FEATURES or half and 'bfloat16' not in cpu.FEATURES:
        pytest.skip(f'the kernel does not serve this type here: {cpu.FEATURES}')
    backbone, x, calls = build(model).eval(), torch.randn(1, 3, 56, 70), []
    with monkeypatch.context() as patch:
        patch.setattr(cpu, 'FEATURES', ())
        expected = backbone(x)[0]
    original = cpu.attention_cpu
    monkeypatch.setattr(cpu, 'attention_cpu', lambda *args: calls.append(1) or original(*args))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=half):
        out = backbone(x)[0]
    assert len(calls) == 2 and (out - expected).norm() < (2e-2 if half else 1e-5) * expected.norm()


def build(model, **options):
    """A narrow model with parameters off their initial values."""
    torch.manual_seed(0)
    return disturb(TimmViTDet(model, model_args=MODELS[model], **options)).eval()


def of_timm(net):
    """The model of timm with the weights of ``net`` and the forward passes of timm."""
    model = copy.deepcopy(net.net)
    for block in model.blocks:
        del block.forward
    return model


def images(net, rows=5, columns=7):
    patch = net.patch_size
    return torch.randn(2, 3, rows * patch, columns * patch, generator=torch.Generator().manual_seed(1))


@every_model
def test_global_blocks_equal_timm_on_a_grid_that_is_not_square(model):
    net = build(model, window_size=0, positions='antialias', out_indices=(0, 1))
    x, reference = images(net), of_timm(net)
    if isinstance(reference, beit.Beit):  # has one grid, and a rule of its own for larger ones
        reference.set_input_size(tuple(x.shape[2:]))
    with torch.no_grad():
        expected = reference.forward_intermediates(x, intermediates_only=True)
        torch.testing.assert_close(list(net(x)), expected, atol=1e-6, rtol=1e-6)


@every_model
def test_a_training_step_after_inference_mode(model):
    net = build(model, window_size=0)
    x = images(net)[..., :2 * net.patch_size, :3 * net.patch_size]  # a smaller grid than that of the positions
    with torch.inference_mode():
        net(x)
    net.train()(x)[0].sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@every_model
@pytest.mark.parametrize('prefix', ['keep', 'drop'])
def test_windows_equal_a_loop_over_windows(model, prefix):
    """3 does not divide the 5 x 7 tokens: the last windows are padded with zeros after the first norm."""
    net = build(model, window_size=3, global_block_indexes=[1], prefix_tokens=prefix)
    x, hw = images(net), (5, 7)
    with torch.no_grad():
        block, number = net.net.blocks[0], net.num_prefix
        tokens = net._add_prefix_and_positions(net.net.patch_embed.proj(x).permute(0, 2, 3, 1), hw)
        is_beit = isinstance(block, beit.Block)
        rope = None if getattr(net.net, 'rope', None) is None else net.net.rope.get_embed(shape=list(hw))
        if rope is not None:
            rope = (rope[0] if net.net.rope_mixed else rope).unflatten(-2, hw)

        def attend(tokens):
            prefix_tokens, grid = tokens[:, :number], tokens[:, number:].unflatten(1, hw)
            out, prefix_outs = torch.zeros_like(grid), []
            for top in (0, 3):
                for left in (0, 3, 6):
                    part = grid[:, top:top + 3, left:left + 3]
                    rows, columns = part.shape[1:3]
                    part = F.pad(part, (0, 0, 0, 3 - columns, 0, 3 - rows))
                    window = torch.cat([prefix_tokens, part.flatten(1, 2)], 1)
                    if is_beit:
                        found = beit_attention(block.attn, window, (3, 3), number)
                    elif rope is None:
                        found = block.attn(window)
                    else:
                        table = torch.zeros(*rope.shape[:-3], 3, 3, rope.shape[-1])
                        table[..., rope.shape[-1] // 2:] = 1  # no rotation
                        table[..., :rows, :columns, :] = rope[..., top:top + 3, left:left + 3, :]
                        found = block.attn(window, rope=table.flatten(-3, -2))
                    prefix_outs.append(found[:, :number])
                    inside = found[:, number:].unflatten(1, (3, 3))[:, :rows, :columns]
                    out[:, top:top + 3, left:left + 3] = inside
            return torch.cat([torch.stack(prefix_outs).mean(0), out.flatten(1, 2)], 1)

        branch = attend(block.norm1(tokens))
        scale = getattr(block, 'gamma_1', None)
        branch = block.ls1(branch) if hasattr(block, 'ls1') else branch if scale is None else scale * branch
        expected = tokens + branch
        branch = block.mlp(block.norm2(expected))
        scale = getattr(block, 'gamma_2', None)
        branch = block.ls2(branch) if hasattr(block, 'ls2') else branch if scale is None else scale * branch
        net.out_indices = (0,)
        (found,), _ = net.forward_tokens(x)
        torch.testing.assert_close(found, expected + branch, atol=1e-5, rtol=1e-5)


def test_windows_of_eva02_restart_their_rotary_embeddings():
    net = build('eva02_tiny_patch14_224').net
    ropes = block_ropes(net, (8, 12), 2, [False, True], 4, restart=True)
    assert torch.equal(ropes[0], net.rope.get_embed(shape=[4, 4]))
    assert torch.equal(ropes[1], net.rope.get_embed(shape=[8, 12]))


def test_offset_of_dinov2_shifts_the_sampling_positions():
    """(h + 0.1) / old is the scale: output row i samples at (i + 0.5) * old / (h + 0.1) - 0.5."""
    ramp = torch.arange(10.0)[None, :, None].expand(1, 10, 1) + torch.zeros(1, 10, 10)
    rows = {how: resize_positions(ramp.reshape(1, 100, 1), (10, 10), (5, 10), how).reshape(5, 10)[3, 3].item()
            for how in ('offset', 'bicubic')}
    assert rows['offset'] == pytest.approx(3.5 * 10 / 5.1 - 0.5, abs=0.05)  # the cubic kernel is not exact on a ramp
    assert rows['bicubic'] == pytest.approx(3.5 * 10 / 5 - 0.5, abs=0.05)
    assert torch.equal(resize_positions(ramp.reshape(1, 100, 1), (10, 10), (10, 10), 'offset').flatten(),
                       ramp.flatten())


def test_only_dinov2_without_registers_has_the_offset():
    assert build('vit_small_patch14_dinov2').positions == 'offset'
    assert build('vit_small_patch14_reg4_dinov2').positions == 'antialias'
    assert build('vit_base_patch16_224').positions == 'antialias'


@pytest.mark.parametrize(('out_type', 'channels'), [('cls_token', 48), ('avg_featmap', 48), ('cls_avg', 96)])
def test_vectors_for_classifiers(out_type, channels):
    net = build('vit_small_patch16_dinov3_qkvb', window_size=0, out_type=out_type)
    x = images(net)
    with torch.no_grad():
        tokens = of_timm(net).forward_features(x)
        parts = dict(cls_token=tokens[:, 0], avg_featmap=tokens[:, 5:].mean(1))
        parts['cls_avg'] = torch.cat([parts['cls_token'], parts['avg_featmap']], 1)
        out, = net(x)
    assert out.shape == (2, channels) and net.out_channels == (channels,)
    torch.testing.assert_close(out, parts[out_type], atol=1e-6, rtol=1e-6)


def test_every_parameter_that_is_left_receives_a_gradient():
    """DDP requires it, so parts that the output does not depend on are removed: heads, pooling, later blocks."""
    for model in MODELS:
        net = build(model, window_size=3, out_indices=(0,)).train()
        net(images(net))[0].square().sum().backward()
        assert not [name for name, p in net.named_parameters() if p.grad is None], model
        assert len(net.net.blocks) == 1


def test_another_patch_size():
    net = TimmViTDet('vit_small_patch14_dinov2', model_args=NARROW, patch_size=16, img_size=128)
    assert net.out_strides == (16,) and net(torch.zeros(1, 3, 32, 48))[0].shape == (1, 48, 2, 3)


def test_freezing_and_layer_ids():
    net = build('vit_small_patch14_reg4_dinov2', frozen_stages=1)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in net.named_parameters() if name.startswith('net.blocks.1.')}
    ids = {name: net.get_layer_id(name) for name, _ in net.named_parameters()}
    assert ids['net.pos_embed'] == ids['net.cls_token'] == ids['net.patch_embed.proj.weight'] == 0
    assert ids['net.blocks.1.ls2.gamma'] == 2 and net.num_layers == 2


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(model='vit_small_patch14_dinov9'), 'is not a model of timm'),
    (dict(model='resnet18'), 'resnet18 is not a plain ViT'),
    (dict(model='samvit_base_patch16'), "type='ViTDet'"),
    (dict(model=dict(family='Swin')), "family='Swin' is unknown; choose one of VisionTransformer, Eva, Beit"),
    (dict(model='vit_tiny_patch16_224', model_args=dict(detph=2)), 'detph'),
    (dict(model='vit_tiny_patch16_224', model_args=dict(in_chans=4)), 'model_args: in_chans is an argument of'),
    (dict(model='vit_tiny_patch16_224', prefix_tokens='none'), "prefix_tokens='none' is unknown"),
    (dict(model='vit_tiny_patch16_224', global_block_indexes=[12]), r'global_block_indexes: \[12\]'),
    (dict(model='vit_tiny_patch16_224', out_indices=[-13]), r'out_indices: \[-13\]'),
    (dict(model='vit_tiny_patch16_224', prefix_tokens='drop', out_type='cls_token'), 'requires a class token'),
    (dict(model='vit_tiny_patch16_224', frozen_stages=13), 'frozen_stages=13 must be from -1 to 12'),
])
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        TimmViTDet(**arguments)


def test_input_that_the_patches_do_not_divide():
    with pytest.raises(UserError, match='not a multiple of patch_size=14'):
        build('vit_small_patch14_dinov2')(torch.zeros(1, 3, 32, 32))


