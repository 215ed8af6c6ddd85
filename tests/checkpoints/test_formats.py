"""Every published format: renamed weights of this project load back completely."""

import pytest
import torch

from tests.checkpoints import models, official_names
from vitdet_plugin.checkpoints.official import load_official


def save(path, state, wrapper='model'):
    torch.save({wrapper: state} if wrapper else state, path)
    return path


def assert_equal_weights(model, reference):
    ours, theirs = model.state_dict(), reference.state_dict()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


GROUP_NORM = dict(type='GN', num_groups=1)
DETECTORS = {
    'detectron2 ViTDet': (official_names.detectron2, dict(), 'model'),
    'detectron2 ViTDet, cascade': (official_names.detectron2, dict(cascade=True), 'model'),
    'mmdet projects/ViTDet': (official_names.mmdet_project, dict(), 'state_dict'),
    'EasyCV ViTDet': (official_names.easycv, dict(norm_cfg=GROUP_NORM), 'state_dict'),
}


@pytest.mark.parametrize('case', DETECTORS)
def test_whole_detectors(tmp_path, case):
    rename, changes, wrapper = DETECTORS[case]
    source, target = models.detector(1, **changes), models.detector(2, **changes)
    report = load_official(target, save(tmp_path / 'official.pth', rename(source.state_dict()), wrapper))
    assert report.recognized_as == case.split(',')[0]
    assert report.missing == report.unexpected == [] and not report.resized
    assert sorted(report.matched) == sorted(target.state_dict())
    assert_equal_weights(target, source)


def test_a_detectors_checkpoint_fills_a_backbone_alone(tmp_path):
    source = models.detector(1)
    target = models.backbone(2, residual_block_indexes=[2])
    path = save(tmp_path / 'd2.pth', official_names.detectron2(source.state_dict()))
    report = load_official(target, path, allow_missing=False)
    assert 'not part of a backbone' in report.dropped.values()
    assert_equal_weights(target, source.backbone)


def test_mae_into_a_backbone_leaves_relative_positions(tmp_path):
    source, target = models.backbone(1), models.backbone(2)
    before = target.blocks[0].attn.rel_pos_h.clone()
    report = load_official(target, save(tmp_path / 'mae.pth', official_names.mae(source.state_dict())))
    assert report.recognized_as == 'MAE'
    assert report.missing == [name for name in target.state_dict() if 'rel_pos' in name]
    assert set(report.dropped) == {'cls_token', 'norm.weight', 'norm.bias', 'mask_token', 'decoder_pos_embed',
                                   'decoder_blocks.0.attn.qkv.weight'}
    assert torch.equal(target.blocks[0].attn.rel_pos_h, before)
    assert torch.equal(target.pos_embed, source.pos_embed)
    assert torch.equal(target.blocks[2].mlp.fc1.weight, source.blocks[2].mlp.fc1.weight)


def test_mae_into_a_detector_misses_backbone_weights_only(tmp_path):
    target = models.detector(2, residual_block_indexes=[])
    path = save(tmp_path / 'mae.pth', official_names.mae(models.backbone(1).state_dict()))
    assert all(name.startswith('backbone.') and 'rel_pos' in name for name in load_official(target, path).missing)


@pytest.mark.parametrize('prefix', ['image_encoder.', ''])
def test_sam(tmp_path, prefix):
    source, target = (models.backbone(seed, pretrain_use_cls_token=False) for seed in (1, 2))
    state = {name.replace('image_encoder.', prefix): value
             for name, value in official_names.sam(source.state_dict()).items()}
    report = load_official(target, save(tmp_path / 'sam.pth', state, wrapper=None), allow_missing=False)
    assert report.recognized_as == 'SAM image encoder'
    assert_equal_weights(target, source)


@pytest.mark.parametrize('wrapper', [None, 'state_dict', 'model', 'module'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_own_checkpoints(tmp_path, wrapper, prefix):
    source, target = models.backbone(1), models.backbone(2)
    state = {prefix + name: value for name, value in source.state_dict().items()}
    report = load_official(target, save(tmp_path / 'ours.pth', state, wrapper), allow_missing=False)
    assert report.recognized_as == 'a backbone of this project'
    assert_equal_weights(target, source)


def test_own_detector(tmp_path):
    source, target = models.detector(1), models.detector(2)
    report = load_official(target, save(tmp_path / 'ours.pth', source.state_dict(), 'state_dict'), allow_missing=False)
    assert report.recognized_as == 'this project'
    assert_equal_weights(target, source)
