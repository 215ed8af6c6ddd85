"""ConvNeXt's published names: weights of this project, renamed to them, load back completely."""

import re

import pytest
import torch
from torch import nn

from tests.checkpoints.models import randomize
from tests.checkpoints.test_formats import assert_equal_weights, save
from vitdet_plugin.backbones.convnext import ConvNeXtBackbone
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.heads.cls_head import LayerNormClsHead

DIMS = (4, 6, 8, 10)


def classifier(seed: int, use_grn: bool) -> nn.Module:
    backbone = ConvNeXtBackbone(dict(depths=(1, 1, 2, 1), dims=DIMS, use_grn=use_grn), out_indices=(3,),
                                out_norms=False)
    return randomize(nn.ModuleDict(dict(backbone=backbone, head=LayerNormClsHead(5, DIMS[-1]))), seed)


def renamed(state: dict, words: dict, grn_ndim: int = 4) -> dict:
    """Rename this project's weights; written for the tests, independent of the package."""
    result = {}
    for name, value in state.items():
        if '.grn.' in name:
            value = value.view((1,) * (grn_ndim - 1) + (-1,))
        for pattern, target in words.items():
            name = re.sub(pattern, target, name)
        result[name] = value
    return result


STAGES = {r'stem\.': 'downsample_layers.0.', r'stages\.(\d)\.downsample': r'downsample_layers.\1',
          r'\.blocks': '', r'mlp\.grn\.weight': 'grn.gamma', r'mlp\.grn\.bias': 'grn.beta'}
FACEBOOK = {**STAGES, 'conv_dw': 'dwconv', r'mlp\.fc': 'pwconv'}
OFFICIAL = {**FACEBOOK, r'^backbone\.': '', r'^head\.norm': 'norm', r'^head\.fc': 'head'}
OPENMMLAB = {**STAGES, 'conv_dw': 'depthwise_conv', r'mlp\.fc': 'pointwise_conv'}
MMPRETRAIN = {**OPENMMLAB, r'^head\.norm': 'backbone.norm3'}
NAMINGS = {'ConvNeXt': (OFFICIAL, 'model', 4), 'ConvNeXt, timm': ({r'^backbone\.': ''}, None, 1),
           'ConvNeXt, mmpretrain': (MMPRETRAIN, 'state_dict', 4)}


@pytest.mark.parametrize('use_grn', [False, True], ids=['V1', 'V2'])
@pytest.mark.parametrize('name', NAMINGS)
def test_a_classifier(tmp_path, name, use_grn):
    words, wrapper, grn_ndim = NAMINGS[name]
    source, target = classifier(1, use_grn), classifier(2, use_grn)
    path = save(tmp_path / 'official.pth', renamed(source.state_dict(), words, grn_ndim), wrapper)
    report = load_official(target, path, allow_missing=False)
    assert report.recognized_as == name and not report.dropped
    assert_equal_weights(target, source)


@pytest.mark.parametrize('name', NAMINGS)
def test_a_detector_takes_the_backbone_and_drops_the_head(tmp_path, name):
    words, wrapper, grn_ndim = NAMINGS[name]
    source = classifier(1, True)
    path = save(tmp_path / 'official.pth', renamed(source.state_dict(), words, grn_ndim), wrapper)
    target = nn.ModuleDict(dict(backbone=ConvNeXtBackbone(dict(depths=(1, 1, 2, 1), dims=DIMS, use_grn=True)),
                                neck=nn.Conv2d(2, 2, 1)))
    report = load_official(target, path)
    assert report.missing == [f'backbone.norm{i}.{leaf}' for i in range(4) for leaf in ('weight', 'bias')]
    assert set(report.dropped.values()) == {'classification head: the detector has none'} and len(report.dropped) == 4
    assert_equal_weights(target['backbone'].stages, source['backbone'].stages)
    alone = ConvNeXtBackbone(dict(depths=(1, 1, 2, 1), dims=DIMS, use_grn=True))
    load_official(alone, path)
    assert_equal_weights(alone.stages, source['backbone'].stages)


def test_pretraining_of_v2_leaves_its_decoder(tmp_path):
    source, target = (ConvNeXtBackbone(dict(depths=(1, 1, 1, 1), dims=DIMS, use_grn=True), out_norms=False)
                      for _ in range(2))
    state = {f'encoder.{name}': value for name, value in renamed(source.state_dict(), FACEBOOK).items()}
    state |= {'mask_token': torch.zeros(1, 4, 1, 1), 'decoder.0.dwconv.weight': torch.zeros(4, 1, 7, 7),
              'proj.weight': torch.zeros(4, 10, 1, 1), 'pred.weight': torch.zeros(8, 4, 1, 1)}
    report = load_official(target, save(tmp_path / 'fcmae.pt', state), allow_missing=False)
    assert set(report.dropped.values()) == {'decoder of the pre-training'} and len(report.dropped) == 4
    assert_equal_weights(target, source)


@pytest.mark.parametrize('words', [FACEBOOK, OPENMMLAB], ids=['official', 'mmdet'])
def test_a_detectors_checkpoint_with_norms_on_every_map(tmp_path, words):
    source, target = (randomize(nn.ModuleDict(dict(
        backbone=ConvNeXtBackbone(dict(depths=(1, 1, 1, 1), dims=DIMS)), neck=nn.Conv2d(2, 2, 1))), seed)
        for seed in (1, 2))
    path = save(tmp_path / 'detector.pth', renamed(source.state_dict(), words), 'state_dict')
    report = load_official(target, path, allow_missing=False)
    assert report.recognized_as == ('ConvNeXt' if words is FACEBOOK else 'ConvNeXt, mmdet')
    assert_equal_weights(target, source)
