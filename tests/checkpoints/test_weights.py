"""Which weights of a file are read, prefixes, depth and channels: every registered backbone."""

import pytest
import torch
from torch import nn

from tests.backbones.registered import BACKBONES, disturb, tiny
from tests.checkpoints import models, official_names
from tests.checkpoints.test_formats import assert_equal_weights, save
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.files import load_state_dict_file, read_weights
from vitdet_plugin.checkpoints.fit import fit_channels
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError

backbones = pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)


def ones(value: float) -> dict:
    return {'w': torch.full((2,), float(value)), 'epoch': 3, 'name': 'x', 'none': None}


@pytest.mark.parametrize(('content', 'read', 'says'), [
    (dict(model=ones(1), model_ema=ones(2)), 2, "'model_ema' (averaged weights); the file also has 'model': choose"),
    (dict(state_dict=ones(1), state_dict_ema=ones(2), optimizer=dict(state={0: dict(m=torch.ones(2))})), 2, 'averaged'),
    (dict(state_dict=ones(1), ema_state_dict=ones(2)), 1, 'the averaged weights, if mmengine wrote the file'),
    (dict(model=ones(1), ema=dict(module=ones(2), updates=7)), 2, "'ema.module' (averaged weights)"),
    (dict(teacher=ones(2), student=ones(1), dino_loss=dict(center=torch.ones(2))), 2, "also has 'student'"),
    (dict(model=dict(model=ones(1)), epoch=torch.tensor(3)), 1, ''), (dict(module=ones(1)), 1, ''),
    (dict(model_state=ones(1)), 1, ''), (dict(params=ones(1), params_ema=ones(2)), 2, "also has 'params'"),
    (dict(net=ones(1)), 1, ''), (dict(weights=ones(1)), 1, ''), (dict(my_weights=ones(1), optim=ones(2)), 1, ''),
    (ones(1), 1, '')])
def test_which_weights_are_read(tmp_path, content, read, says):
    found = read_weights(save(tmp_path / 'x.pth', content, None))
    assert found.state.keys() == {'w'} and found.state['w'].tolist() == [read, read]
    assert says in found.note and '\n' not in found.note and bool(found.note) == bool(says)


def test_weights_are_chosen_by_key(tmp_path, capsys):
    own, averaged = models.backbone(1), models.backbone(3)
    path = save(tmp_path / 'x.pth', dict(model=own.state_dict(), model_ema=dict(module=averaged.state_dict())), None)
    for key, expected in ((None, averaged), ('model', own), ('model_ema', averaged), ('model_ema.module', averaged)):
        target = models.backbone(2, init_cfg=dict(type='Pretrained', checkpoint=str(path), key=key))
        target.init_weights()
        assert_equal_weights(target, expected)
    from vitdet_plugin.cli.convert import main
    assert main([str(path), str(tmp_path / 'o.pth'), '--key', 'model']) == 0
    assert "weights under 'model'; the file also has 'model_ema.module'" in capsys.readouterr().out
    assert torch.equal(torch.load(tmp_path / 'o.pth')['state_dict']['backbone.pos_embed'], own.pos_embed)
    with pytest.raises(UserError, match=r"no weights under key='ema'; it has them under 'model', 'model_ema.module'"):
        read_weights(path, 'ema')
    with pytest.raises(UserError, match=r"several keys: 'a', 'b'; choose one by key=NAME"):
        read_weights(save(tmp_path / 'y.pth', dict(a=ones(1), b=ones(2)), None))


PREFIXES = ('_orig_mod.', 'module.', 'module.module.', 'backbone.', 'encoder.', 'model.', 'image_encoder.', 'net.',
            'student.backbone.', 'model._orig_mod.module.backbone.', 'module._fsdp_wrapped_module.')


@backbones
@pytest.mark.parametrize('prefix', PREFIXES)
def test_prefixes_are_removed(tmp_path, cls, prefix):
    source, target = tiny(cls, 1), tiny(cls, 2)
    state = {prefix + name.replace('.0.', '.0._checkpoint_wrapped_module.', 1): value
             for name, value in source.state_dict().items()}
    load_official(target, save(tmp_path / 'x.pth', {**state, 'my_head.weight': torch.zeros(2)}
                               if prefix == 'student.backbone.' else state))
    assert_equal_weights(target, source)


@backbones
def test_own_names_of_every_backbone(tmp_path, cls):
    """With and without prefix, with and without a model."""
    source = tiny(cls, 1)
    bare, inside = save(tmp_path / 'a.pth', source.state_dict()), tmp_path / 'b.safetensors'
    report = convert_checkpoint(bare, inside)
    assert not report.dropped and not report.unexpected
    for path in (bare, inside):
        for target in (tiny(cls, 2), nn.ModuleDict(dict(backbone=tiny(cls, 2), neck=nn.Conv2d(2, 2, 1)))):
            load_official(target, path, allow_missing=isinstance(target, nn.ModuleDict))
            assert_equal_weights(target['backbone'] if isinstance(target, nn.ModuleDict) else target, source)


def test_two_prefixes_that_fit_equally_need_a_choice(tmp_path):
    student, teacher = models.backbone(1), models.backbone(3)
    state = {f'{name}.backbone.{key}': value for name, model in (('student', student), ('teacher', teacher))
             for key, value in model.state_dict().items()}
    path = save(tmp_path / 'x.pth', state)
    with pytest.raises(UserError, match=r"under 'student.' and under 'teacher.' fit equally"):
        load_official(models.backbone(2), path)
    target = models.backbone(2, init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='teacher.backbone.'))
    target.init_weights()
    assert_equal_weights(target, teacher)
    with pytest.raises(UserError, match=r"no weights under prefix='neck.'; its names start with 'student.', 'teach"):
        load_official(target, path, prefix='neck')
    with pytest.raises(UserError, match=r"has 'a.w' both with and without the prefix"):
        load_state_dict_file(save(tmp_path / 'y.pth', {'a.w': torch.ones(1), 'module.a.w': torch.ones(1)}))


def test_prefix_of_a_published_detector(tmp_path):
    path = save(tmp_path / 'd2.pth', official_names.detectron2(models.detector(1).state_dict()))
    target = models.backbone(2, residual_block_indexes=[2], init_cfg=dict(
        type='Pretrained', checkpoint=str(path), prefix='backbone.'))
    target.init_weights()
    assert_equal_weights(target, models.detector(1).backbone)


def test_a_published_backbone_in_another_projects_classifier(tmp_path):
    source = models.backbone(1)
    state = {f'backbone.{name}': value for name, value in official_names.mae(source.state_dict()).items()}
    report = load_official(models.backbone(2), save(tmp_path / 'x.pth', {**state, 'fc.weight': torch.ones(2, 2)}))
    assert report.recognized_as == 'MAE' and "not under 'backbone.'" in report.dropped.values()


@backbones
def test_another_depth_is_refused(tmp_path, cls):
    """Blocks that the file lacks, or has in addition, at any stage."""
    source = tiny(cls, 1)
    last = [name for name in source.state_dict() if '.blocks.' in f'.{name}' or name.startswith('network.')][-1]
    container = last[:last.index('blocks.') + 6] if 'blocks.' in last else last.rsplit('.', 4)[0]
    parts = last[len(container) + 1:].split('.')[0]
    block = f'{container}.{parts}.'
    state = {name: value for name, value in source.state_dict().items() if not name.startswith(block)}
    more = {**source.state_dict(), **{f'{container}.77.{name[len(block):]}': value for name, value in
                                      source.state_dict().items() if name.startswith(block)}}
    for kind in (state, more):
        target = tiny(cls, 2)
        before = {name: value.clone() for name, value in target.state_dict().items()}
        with pytest.raises(UserError, match=r'has \d+ \w+ in backbone\.\S+, the model has \d+') as caught:
            load_official(target, save(tmp_path / 'x.pth', kind))
        assert '\n' not in str(caught.value)
        assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_a_partial_backbone_is_refused_and_a_few_missing_weights_are_reported(tmp_path):
    state = models.backbone(1).state_dict()
    few = {name: value for name, value in state.items() if name != 'blocks.1.norm1.bias'}
    assert load_official(models.backbone(2), save(tmp_path / 'x.pth', few)).missing == ['blocks.1.norm1.bias']
    part = {name: value for name, value in state.items() if 'mlp' not in name}
    with pytest.raises(UserError, match=r'lacks 12 of 45 weights of the backbone \(blocks.0.mlp.fc1.*and 8 more\)'):
        load_official(models.backbone(2), save(tmp_path / 'x.pth', part))


@pytest.mark.parametrize('cls', [cls for cls in BACKBONES if cls.__name__ != 'CBNet'], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(('given', 'channels'), [(3, 1), (3, 4), (1, 3), (3, 6)])
def test_input_channels(tmp_path, cls, given, channels):
    """Where the channels are repeated as a whole, an image with equal channels gives the same features."""
    source, target = tiny(cls, 1, in_channels=given).eval(), tiny(cls, 2, in_channels=channels).eval()
    report = load_official(target, save(tmp_path / 'x.pth', source.state_dict()))
    assert list(report.resized) == [target.stem_weight]
    assert ('the sum over 3 input channels' if channels == 1 else f'repeated to {channels} and scaled by '
            f'{given}/{channels}') in str(report)
    if channels % given and channels > 1:
        return
    image = torch.randn(1, 1, *[2 * target.out_strides[-1]] * 2)
    with torch.no_grad():
        for a, b in zip(target(image.expand(1, channels, -1, -1)), source(image.expand(1, given, -1, -1))):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_channels_as_in_timm():
    from timm.models._manipulate import adapt_input_conv
    weight = torch.randn(4, 3, 2, 2)
    for channels in (1, 2, 4, 7):
        torch.testing.assert_close(fit_channels(weight, channels), adapt_input_conv(channels, weight))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(tmp_path, dtype):
    source, target = models.backbone(1), models.backbone(2)
    load_official(target, save(tmp_path / 'x.pth', {name: value.to(dtype) for name, value in
                                                    source.state_dict().items()}))
    assert target.pos_embed.dtype == torch.float32
    torch.testing.assert_close(target.pos_embed, source.pos_embed, atol=5e-3, rtol=1e-2)
    with pytest.raises(UserError, match='pos_embed is int8, the model requires floating point'):
        load_official(target, save(tmp_path / 'x.pth', {name: value.to(torch.int8) for name, value in
                                                        source.state_dict().items()}))


def test_scalars_of_another_rank(tmp_path):
    from vitdet_plugin.backbones.internimage import InternImage
    cfg = dict(arch=dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8]), norm_layer='BN')
    source, target = disturb(InternImage(**cfg)), InternImage(**cfg)
    state = {name: value.reshape(1) if not value.ndim else value for name, value in source.state_dict().items()}
    load_official(target, save(tmp_path / 'x.pth', state))
    assert_equal_weights(target, source)


def test_another_embed_dim_names_both_shapes(tmp_path):
    path = save(tmp_path / 'x.pth', models.backbone(1).state_dict())
    with pytest.raises(UserError, match=r'pos_embed is \(1, 5, 16\), the model requires \(1, 5, 24\)'):
        load_official(models.backbone(2, arch=dict(embed_dim=24, depth=3, num_heads=2)), path)
