"""Files of DINO and its relatives in the names of mmdet 2 and mmdet 3, also with another backbone than the model."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from tests.backbones.small_configs import small_cfg
from tests.detr.mmdet2_names import dino_head_names, mmdet2
from tests.detr.small import INTERNIMAGE, build, deformable_detr, dino, dino_cfg, host
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.checkpoints.classes import match_classes
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.check_weights import build_without_memory, is_official
from vitdet_plugin.errors import UserError

RESNET = dict(type='ResNet', depth=18, out_indices=(1, 2, 3), base_channels=8, norm_cfg=dict(type='BN'))
RESNET_CHANNELS = (16, 32, 64)
SWIN = dict(type='SwinTransformer', embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 4), out_indices=(1, 2, 3))


def save(path, state):
    torch.save({'state_dict': state, 'meta': {}}, path)
    return path


def assert_same(state, expected, names=None):
    names = expected.keys() if names is None else names
    assert all(torch.equal(state[name], expected[name]) for name in names)


def test_names_and_shapes_of_the_published_dino():
    """DINO-4scale as OpenGVLab publishes it, from mmdet's own config with InternImage-T."""
    init_default_scope('mmdet')
    cfg = copy.deepcopy(load_config('mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py').model)
    cfg.backbone = dict(type='InternImage', out_indices=(1, 2, 3), layer_scale=1.0)
    cfg.neck.in_channels = [128, 256, 512]
    state = mmdet2(build_without_memory(cfg).state_dict())
    head = {name: tuple(value.shape) for name, value in state.items() if not name.startswith('backbone.')}
    assert sorted(head) == sorted(dino_head_names()) and len(head) == 309
    layer = 'bbox_head.transformer.{}.layers.5.'
    assert {name: head[name] for name in (
        'bbox_head.label_embedding.weight', 'bbox_head.transformer.query_embed.weight',
        'bbox_head.transformer.level_embeds', 'bbox_head.transformer.decoder.ref_point_head.0.weight',
        layer.format('decoder') + 'attentions.0.attn.in_proj_weight', 'bbox_head.cls_branches.6.weight',
        layer.format('decoder') + 'attentions.1.sampling_offsets.weight', 'bbox_head.reg_branches.6.4.weight',
        layer.format('encoder') + 'attentions.0.attention_weights.weight')} == {
        'bbox_head.label_embedding.weight': (80, 256), 'bbox_head.transformer.query_embed.weight': (900, 256),
        'bbox_head.transformer.level_embeds': (4, 256),
        'bbox_head.transformer.decoder.ref_point_head.0.weight': (256, 512),
        layer.format('decoder') + 'attentions.0.attn.in_proj_weight': (768, 256),
        'bbox_head.cls_branches.6.weight': (80, 256),
        layer.format('decoder') + 'attentions.1.sampling_offsets.weight': (256, 256),
        'bbox_head.reg_branches.6.4.weight': (4, 256),
        layer.format('encoder') + 'attentions.0.attention_weights.weight': (128, 256)}


def test_report_of_opengvlabs_dino(tmp_path):
    source, target = dino(0), dino(1)
    state = mmdet2(source.state_dict()) | {'ema_bbox_head_transformer_level_embeds': torch.zeros(1)}
    path = save(tmp_path / 'dino.pth', state)
    report = load_official(target, path, allow_missing=False)
    assert_same(target.state_dict(), source.state_dict())
    lines = str(report).splitlines()
    first = "recognized as OpenGVLab's DINO ('backbone.levels.0.blocks.0.dcn.mask.weight', "
    assert lines[0].startswith(f'{path}: {first}')
    assert lines[0].endswith(f'; {len(source.state_dict())} weights matched')
    assert lines[1:] == ['  dropped 1: running averages that mmdet 2 keeps next to the weights']
    assert is_official(str(path), target)


@pytest.mark.parametrize('lost', ['bbox_head.transformer.level_embeds', 'bbox_head.cls_branches.2.bias'])
def test_a_missing_weight_of_the_head_is_an_error(tmp_path, lost):
    state = mmdet2(dino(0).state_dict())
    del state[lost]
    with pytest.raises(UserError, match='lacks 1 weights of the model'):
        load_official(dino(1), save(tmp_path / 'dino.pth', state), allow_missing=False)


def test_an_unknown_name_is_an_error(tmp_path):
    state = mmdet2(dino(0).state_dict()) | {'bbox_head.transformer.encoder.layers.0.gate.weight': torch.zeros(1)}
    with pytest.raises(UserError, match='gate.weight'):
        load_official(dino(1), save(tmp_path / 'dino.pth', state))


def test_a_backbone_alone_is_read_from_a_detectors_file(tmp_path):
    source, target = dino(0), build(INTERNIMAGE, 1)
    report = load_official(target, save(tmp_path / 'dino.pth', mmdet2(source.state_dict())))
    assert_same(target.state_dict(), source.backbone.state_dict())
    assert set(report.dropped.values()) == {'not part of a backbone'} and not report.missing


@pytest.mark.parametrize('two_stage', [False, True])
def test_deformable_detr_of_mmdet_2(tmp_path, two_stage):
    source, target = (deformable_detr(seed, two_stage) for seed in (0, 1))
    state = mmdet2(source.state_dict())
    if not two_stage:  # contents and positions are outside of mmdet 2's transformer
        state['bbox_head.query_embedding.weight'] = state.pop('bbox_head.transformer.query_embed.weight')
    report = load_official(target, save(tmp_path / 'detr.pth', state), allow_missing=False)
    assert report.recognized_as == "InternImage in mmdet 2's Deformable DETR" and not report.dropped
    assert_same(target.state_dict(), source.state_dict())


def test_other_numbers_of_classes(tmp_path):
    source = dino(0)
    cfg = dino_cfg()
    cfg.bbox_head.num_classes = 3
    target = build(cfg, 1)
    path = save(tmp_path / 'dino.pth', mmdet2(source.state_dict()))
    with pytest.raises(UserError, match='label_embedding|cls_branches'):
        load_official(target, path)
    report = load_official(target, path, other_classes=True)
    again = [f'bbox_head.cls_branches.{i}.{leaf}' for i in range(3) for leaf in ('weight', 'bias')]
    assert sorted(report.missing) == sorted([*again, 'dn_query_generator.label_embedding.weight'])


@pytest.mark.parametrize(('kind', 'name', 'fits'), [
    ('dino', "mmdet 3's DINO", 'decoder.ref_point_head.layers.0.weight'),
    ('deformable_detr', "mmdet 3's Deformable DETR", 'reference_points_fc.weight'),
    ('mask2former', "mmdet 3's Mask2Former", 'panoptic_head.transformer_decoder.layers.0.ffn.layers.1.weight'),
    ('rtmdet', "mmdet 3's RTMDet", 'bbox_head.rtm_cls.0.weight'),
    ('atss', "mmdet's detector", 'bbox_head.atss_cls.weight')])
def test_mmdets_own_files_with_the_backbone_exchanged(tmp_path, kind, name, fits):
    source = build(host(kind, RESNET, RESNET_CHANNELS), 0)
    target = build(host(kind, INTERNIMAGE, (32, 64, 128)), 1)
    before = {each: value.clone() for each, value in target.state_dict().items()}
    path = save(tmp_path / 'file.pth', source.state_dict())
    report = load_official(target, path)
    assert report.recognized_as == name and fits in report.matched and not report.unexpected
    assert all(('another backbone' in why) == each.startswith('backbone.') for each, why in report.dropped.items())
    assert any('another shape' in why for why in report.dropped.values())  # the neck's first layers
    assert_same(target.state_dict(), source.state_dict(), report.matched)
    assert_same(target.state_dict(), before, [each for each in before if each not in report.matched])
    assert "another backbone; the model's keeps its weights" in str(report)
    with pytest.raises(UserError, match='lacks'):  # not for testing
        load_official(target, path, allow_missing=False)
    twin = build(host(kind, RESNET, RESNET_CHANNELS), 1)  # the model of the file itself: complete
    assert not load_official(twin, path, allow_missing=False).dropped
    assert_same(twin.state_dict(), source.state_dict())


@pytest.mark.parametrize('backbone', [ViTDet, TimmViTDet, VisionLSTM])
def test_a_swin_file_for_a_plain_backbone(tmp_path, backbone):
    source = build(dino_cfg(SWIN, in_channels=(32, 64, 128)), 0)
    cfg = dino_cfg(dict(type=backbone.__name__, **small_cfg(backbone)))
    cfg.neck = dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=32, scale_factors=(2.0, 1.0, 0.5),
                    num_outs=4)
    target = build(cfg, 1)
    report = load_official(target, save(tmp_path / 'swin.pth', source.state_dict()))
    assert report.recognized_as == "mmdet 3's DINO"
    assert {each.split('.')[0] for each in report.dropped} == {'backbone', 'neck'}
    assert_same(target.state_dict(), source.state_dict(), [each for each in source.state_dict()
                                                           if each.split('.')[0] not in ('backbone', 'neck')])


def test_mmdet_2s_file_with_the_backbone_exchanged(tmp_path):
    source = build(dino_cfg(RESNET, in_channels=RESNET_CHANNELS), 0)
    target = dino(1)
    path = save(tmp_path / 'r18.pth', mmdet2(source.state_dict(), backbone=dict))
    report = load_official(target, path)
    assert report.recognized_as == "mmdet 2's DINO" and len(report.matched) > 100
    assert_same(target.state_dict(), source.state_dict(), report.matched)


def test_a_half_fitting_file_of_this_project_stays_an_error(tmp_path):
    """Only files of other backbones are read in part."""
    smaller = dict(INTERNIMAGE, arch=dict(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)))
    path = save(tmp_path / 'own.pth', dino(0).state_dict())
    with pytest.raises(UserError, match='levels.2.blocks'):
        load_official(build(dino_cfg(smaller), 1), path)




def test_classes_are_reordered_by_name():
    before = dino(0).state_dict()
    state = dict(before)
    done = match_classes(state, 'abcde', 'edc')
    layers = [f'bbox_head.cls_branches.{i}.{leaf}' for i in range(3) for leaf in ('weight', 'bias')]
    assert sorted(done) == sorted([*layers, 'dn_query_generator.label_embedding.weight'])
    assert all(torch.equal(state[name], before[name][[4, 3, 2]]) for name in done)
