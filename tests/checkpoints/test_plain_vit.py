"""Official weights of plain ViTs in TimmViTDet: names, shapes, parts that are left out, and messages."""

import pytest
import torch
from safetensors.torch import save_file

from tests.backbones.registered import disturb
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError

NARROW = dict(depth=2, embed_dim=48, num_heads=3)


def build(model='vit_small_patch14_dinov2', seed=0, **options):
    args = dict(NARROW, **options.pop('model_args', {}))
    torch.manual_seed(seed)
    return disturb(TimmViTDet(model, model_args=args, window_size=0, **options))


def saved(state, tmp_path):
    path = tmp_path / 'official.pth'
    torch.save(state, path)
    return path


def official_dinov2(net):
    """The names of the official file without registers are timm's; the file also has a mask token."""
    return {**net.state_dict(), 'mask_token': torch.zeros(1, 48)}


def official_dinov3(net):
    state = {}
    for name, value in net.state_dict().items():
        for ours, theirs in (('gamma_1', 'ls1.gamma'), ('gamma_2', 'ls2.gamma'), ('reg_token', 'storage_tokens')):
            name = name.replace(ours, theirs)
        if name.endswith('q_bias'):
            v = net.state_dict()[name.replace('q_bias', 'v_bias')]
            state[name.replace('q_bias', 'qkv.bias')] = torch.cat([value, torch.full_like(value, 7.0), v])
            state[name.replace('q_bias', 'qkv.bias_mask')] = torch.tensor([1.0, 0, 1]).repeat_interleave(48)
        elif not name.endswith('v_bias'):
            state[name.replace('rope.periods', 'rope_embed.periods')] = value
    return {**state, 'mask_token': torch.zeros(1, 48)}


@pytest.mark.parametrize('wrap', ['{}', 'backbone.{}', 'module.teacher.backbone.{}'])
def test_dinov2(tmp_path, wrap):
    model, other = build(final_norm=True), build(seed=1, final_norm=True)
    state = {wrap.format(name): value for name, value in official_dinov2(model.net).items()}
    report = load_official(other, saved(state, tmp_path))
    assert not report.missing and not report.unexpected
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_dinov3_with_its_own_periods_and_a_bias_of_k_that_is_masked(tmp_path):
    name = 'vit_small_patch16_dinov3_qkvb'
    model, other = build(name, final_norm=True), build(name, seed=1, final_norm=True)
    model.net.rope.periods.copy_(model.net.rope.periods.bfloat16())
    assert not torch.equal(model.net.rope.periods, other.net.rope.periods)
    report = load_official(other, saved(official_dinov3(model.net), tmp_path), allow_missing=False)
    assert report.recognized_as.startswith('plain ViT')
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_registers_of_dinov2_get_no_position(tmp_path):
    """In the official file the class slot of the table is separate; here it is part of the class token."""
    model = build('vit_small_patch14_reg4_dinov2')
    state = official_dinov2(model.net)
    cls, slot = torch.randn(1, 1, 48), torch.randn(1, 1, 48)
    state['register_tokens'] = state.pop('reg_token')
    state['pos_embed'], state['cls_token'] = torch.cat([slot, state['pos_embed']], 1), cls
    other = build('vit_small_patch14_reg4_dinov2', seed=1)
    load_official(other, saved(state, tmp_path), allow_missing=False)
    torch.testing.assert_close(other.net.cls_token, cls + slot)
    assert torch.equal(other.net.pos_embed, model.net.pos_embed)


def test_names_of_the_eva02_detector(tmp_path):
    """A file of the detectron2 fork: EMA weights are chosen by key."""
    model = dict(family='Eva', qkv_fused=False, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True,
                 ref_feat_shape=16, mlp_ratio=8 / 3, img_size=224, patch_size=16)
    options = dict(prefix_tokens='drop', rope_in_windows='restart')
    first, second = build(model, **options), build(model, seed=1, **options)
    state = {'backbone.net.rope_glb.freqs_cos': torch.zeros(4, 4),
             'backbone.net.blocks.0.attn.rope.freqs_sin': torch.zeros(4, 4)}
    for name, value in first.net.state_dict().items():
        for ours, theirs in (('q_proj.bias', 'q_bias'), ('v_proj.bias', 'v_bias'), ('fc1_g', 'w1'), ('fc1_x', 'w2'),
                             ('fc2', 'w3'), ('mlp.norm', 'mlp.ffn_ln')):
            name = name.replace(ours, theirs)
        state[f'backbone.net.{name}'] = value
    report = load_official(second, saved(dict(model={k: v + 1 for k, v in state.items()}, model_ema=state), tmp_path),
                           key='model_ema', allow_missing=False)
    assert report.recognized_as == 'EVA-02 detector (detectron2)'
    assert report.dropped == {name: 'rotary tables are computed' for name in state if 'freqs' in name}
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_parts_without_a_use_are_left_out_and_counted(tmp_path):
    """Later blocks, the class token and the last norm; the patch kernel is resampled, its channels are summed."""
    model = build(model_args=dict(depth=3))
    other = build(model_args=dict(depth=3), out_indices=(0,), prefix_tokens='drop', patch_size=16, in_channels=1)
    report = load_official(other, saved(official_dinov2(model.net), tmp_path))
    assert not report.missing and 'the sum over 3 input channels' in report.resized['net.patch_embed.proj.weight']
    assert {name for name in report.dropped if not name.startswith('blocks.')} == {'mask_token'}
    assert {name.split('.')[1] for name in report.dropped if name.startswith('blocks.')} == {'1', '2'}
    assert torch.equal(other.net.pos_embed, model.net.pos_embed)


def test_own_file_with_another_table_of_positions(tmp_path):
    model, other = build(model_args=dict(img_size=112)), build(seed=1, model_args=dict(img_size=140))
    save_file(model.state_dict(), tmp_path / 'own.safetensors')
    report = load_official(other, tmp_path / 'own.safetensors')
    assert list(report.resized) == ['net.pos_embed'] and report.recognized_as == 'a backbone of this project'
    assert torch.equal(other.net.pos_embed[:, :1], model.net.pos_embed[:, :1])


@pytest.mark.parametrize(('options', 'message'), [
    (dict(model_args=dict(embed_dim=24)), r'48\), the model requires \(1, 1, 24\)'),
    (dict(model_args=dict(depth=4)), 'has 2 blocks in backbone.net.blocks, the model has 4'),
    (dict(model_args=dict(depth=1)), 'has 2 blocks in backbone.net.blocks, the model has 1'),
    (dict(model='eva02_tiny_patch14_224'), 'official.pth'),
])
def test_weights_of_another_model(tmp_path, options, message):
    path = saved(official_dinov2(build().net), tmp_path)
    with pytest.raises(UserError, match=message):
        load_official(build(seed=1, **options), path)


def test_a_file_of_something_else(tmp_path):
    path = saved({'layer1.0.conv1.weight': torch.zeros(8, 3, 3, 3)}, tmp_path)
    with pytest.raises(UserError, match='none of its weights belong to a VisionTransformer of timm'):
        load_official(build(), path)
