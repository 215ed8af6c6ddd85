"""Co-DINO files in Sense-X's names."""

import pytest
import torch

from tests.configs.loading import built
from tests.detr.co_names import sense_x
from tests.detr.co_small import co_dino_cfg
from tests.detr.small import build, predict
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError

RESNET = dict(type='ResNet', depth=18, out_indices=(1, 2, 3), base_channels=8, norm_cfg=dict(type='BN'))
RESNET_CHANNELS = (16, 32, 64)


def save(path, state):
    torch.save({'state_dict': state, 'meta': {}}, path)
    return path


def test_a_file_loads_completely_and_predicts_the_same(tmp_path):
    source, target = (build(co_dino_cfg(RESNET, RESNET_CHANNELS), seed) for seed in (0, 1))
    state = sense_x(source.state_dict())
    extra = {'query_head.transformer.pos_feats_trans.0.weight': torch.zeros(1),
             'bbox_head.0.loss_cls.fed_loss_weight': torch.zeros(1)}
    report = load_official(target, save(tmp_path / 'co.pth', state | extra), allow_missing=False)
    assert report.recognized_as == "Sense-X's Co-DINO" and not report.missing and not report.unexpected
    assert len(report.matched) == len(source.state_dict()) and set(report.dropped) == set(extra)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())
    images = torch.randn(1, 3, 64, 96)
    for found, expected in zip(predict(target, images, [(64, 96)]), predict(source, images, [(64, 96)]), strict=True):
        assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)


def test_names_and_shapes_of_the_published_heads():
    state = {name: tuple(value.shape) for name, value in sense_x(
        built('co_detr/co-dino_internimage-t_4scale_1x_coco').state_dict()).items()}
    expected = {
        'query_head.transformer.aux_pos_trans.1.weight': (256, 512),
        'query_head.transformer.aux_pos_trans_norm.1.weight': (256,),
        'query_head.transformer.query_embed.weight': (900, 256), 'query_head.transformer.level_embeds': (4, 256),
        'query_head.transformer.enc_output.weight': (256, 256),
        'query_head.transformer.decoder.ref_point_head.0.weight': (256, 512),
        'query_head.transformer.decoder.layers.5.attentions.0.attn.in_proj_weight': (768, 256),
        'query_head.label_embedding.weight': (80, 256), 'query_head.cls_branches.6.weight': (80, 256),
        'query_head.downsample.0.weight': (256, 256, 3, 3), 'query_head.downsample.1.weight': (256,),
        'rpn_head.rpn_cls.weight': (9, 256, 1, 1), 'roi_head.0.bbox_head.fc_reg.weight': (320, 1024),
        'bbox_head.0.atss_cls.weight': (80, 256, 3, 3), 'bbox_head.0.scales.4.scale': ()}
    assert {name: state[name] for name in expected} == expected


def test_another_backbone(tmp_path):
    source = build(co_dino_cfg(RESNET, RESNET_CHANNELS), 0)
    target = build(co_dino_cfg(), 1)
    path = save(tmp_path / 'r18.pth', sense_x(source.state_dict()))
    report = load_official(target, path)
    assert 'aux_bbox_heads.0.atss_cls.weight' in report.matched and 'decoder.norm.weight' in report.matched
    assert {name.split('.')[0] for name in report.dropped} == {'backbone', 'neck'}
    with pytest.raises(UserError, match='lacks'):  # not for testing
        load_official(target, path, allow_missing=False)


def test_a_missing_auxiliary_head_is_reported(tmp_path):
    source, target = (build(co_dino_cfg(RESNET, RESNET_CHANNELS), seed) for seed in (0, 1))
    state = {name: value for name, value in sense_x(source.state_dict()).items() if not name.startswith('rpn_head.')}
    with pytest.raises(UserError, match='lacks .*aux_rpn_head'):
        load_official(target, save(tmp_path / 'co.pth', state), allow_missing=False)


def eva02_names(state: dict) -> dict:
    """Rename a backbone of timm's Eva to the names of EVA-02's detectors, without ``net.``."""
    renamed = {}
    for name, value in state.items():
        for new, old in (('.q_proj.bias', '.q_bias'), ('.v_proj.bias', '.v_bias'), ('.fc1_g.', '.w1.'),
                         ('.fc1_x.', '.w2.'), ('.fc2.', '.w3.'), ('.mlp.norm.', '.mlp.ffn_ln.')):
            name = name.replace(new, old)
        renamed[name.replace('backbone.net.', 'backbone.')] = value
    return renamed


def pyramid_names(state: dict) -> dict:
    """Rename the pyramid of a ViT: levels count from 2 there."""
    renamed = {}
    for name, value in state.items():
        neck, levels, *rest = name.split('.')
        renamed['.'.join([neck, f'p{int(rest[0]) + 2}', *rest[1:]]) if neck == 'neck' else name] = value
    return renamed


def test_a_file_with_the_vit(tmp_path):
    backbone = dict(type='TimmViTDet', model='eva02_tiny_patch14_224', model_args=dict(
        depth=2, embed_dim=32, num_heads=2, mlp_ratio=8 / 3, qkv_fused=False, scale_mlp=True), patch_size=16,
        img_size=64, prefix_tokens='drop', rope_in_windows='restart', window_size=2)
    cfg = co_dino_cfg(backbone)
    cfg.neck = dict(type='ConvFeaturePyramid', in_channels=32, out_channels=32, scale_factors=(4.0, 2.0, 1.0, 0.5))
    source, target = build(cfg, 0), build(cfg, 1)
    own = source.state_dict()
    state = eva02_names(pyramid_names(sense_x(own)))
    state['backbone.rope_glb.freqs_cos'] = torch.zeros(1)
    assert 'backbone.blocks.0.mlp.ffn_ln.weight' in state and 'backbone.blocks.0.attn.q_bias' in state
    report = load_official(target, save(tmp_path / 'vit.pth', state))
    assert report.recognized_as == "Sense-X's Co-DINO on a ViT" and not report.unexpected and not report.missing
    assert set(report.dropped) == {'backbone.rope_glb.freqs_cos'}
    assert all(torch.equal(value, own[name]) for name, value in target.state_dict().items())
    cfg.neck = dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=32, scale_factors=(4.0, 2.0, 1.0, 0.5))
    cfg.neck.num_outs = 4
    with pytest.raises(UserError, match=r'neck\.'):
        load_official(build(cfg), save(tmp_path / 'vit.pth', state), allow_missing=False)


def test_names_and_shapes_of_the_published_pyramid():
    neck = built('co_detr/co-dino_vit-l_5scale_16e_coco').neck.state_dict()
    shapes = {name: tuple(value.shape) for name, value in pyramid_names(
        {f'neck.{name}': value for name, value in neck.items()}).items()}
    middle = {'neck.p2.1.weight': (512, 1024, 3, 3), 'neck.p2.2.bias': (512,), 'neck.p2.5.weight': (256, 512, 3, 3),
              'neck.p2.6.weight': (256,), 'neck.p3.1.weight': (512, 1024, 3, 3), 'neck.p3.2.weight': (512,),
              'neck.p6.1.weight': (1024, 1024, 3, 3), 'neck.p6.2.weight': (1024,)}
    ends = {f'neck.p{level}.{first}.weight': (256, width, 1, 1) for level, first, width in (
        (2, 8, 256), (3, 4, 512), (4, 0, 1024), (5, 1, 1024), (6, 4, 1024))}
    for level, last in ((2, 11), (3, 7), (4, 3), (5, 4), (6, 7)):
        ends |= {f'neck.p{level}.{last}.weight': (256, 256, 3, 3), f'neck.p{level}.{last + 1}.bias': (256,)}
    assert {name: shapes[name] for name in middle | ends} == middle | ends
    assert not [name for name in shapes if name.endswith('.bias') and shapes[name[:-4] + 'weight'] != shapes[name]]
