"""``pretrained`` of models and backbones stands for ``init_cfg`` of the backbone."""

import pytest
from mmengine.config import Config

from vitdet_plugin.config.loading import load_config
from vitdet_plugin.errors import UserError

START = dict(type='Pretrained', checkpoint='mae_b')


def loaded(model: dict, scope: str = 'mmdet', options=()):
    return load_config(Config(dict(model=model, default_scope=scope)), options).model


def vitdet(**arguments) -> dict:
    return dict(type='ViTDet', arch=dict(embed_dim=16, depth=2, num_heads=2), **arguments)


@pytest.mark.parametrize('model', [
    dict(type='MaskRCNN', pretrained='mae_b', backbone=vitdet()),
    dict(type='MaskRCNN', backbone=vitdet(pretrained='mae_b')),
    dict(type='MaskRCNN', pretrained='mae_b', backbone=vitdet(init_cfg=dict(type='Pretrained', checkpoint='old'))),
    dict(type='MaskRCNN', pretrained='mae_b', backbone=vitdet(pretrained=None)),
    dict(type='MaskRCNN', pretrained=None, backbone=vitdet(init_cfg=START)),
    dict(type='MaskRCNN', pretrained=None, backbone=vitdet(pretrained='mae_b')),
    dict(type='MaskRCNN', pretrained='mae_b', backbone=dict(type='ResNet', depth=18)),
])
def test_detectors(model):
    found = loaded(model)
    assert found.backbone.init_cfg == START
    assert 'pretrained' not in found and 'pretrained' not in found.backbone


def test_other_values():
    assert loaded(dict(type='MaskRCNN', backbone=vitdet(init_cfg=START, pretrained=False))).backbone.init_cfg is None
    timm_vit = dict(type='TimmViTDet', model='vit_tiny_patch16_224', pretrained=True)
    assert loaded(dict(type='MaskRCNN', backbone=timm_vit)).backbone.init_cfg.checkpoint == 'timm:vit_tiny_patch16_224'
    with pytest.raises(UserError, match=r'^model\.backbone\.pretrained=True: give a name of "vitdet weights list"'):
        loaded(dict(type='MaskRCNN', backbone=vitdet(pretrained=True)))
    with pytest.raises(UserError, match=r'^model\.pretrained=\[\]: give a name'):
        loaded(dict(type='MaskRCNN', pretrained=[], backbone=vitdet()))


def test_backbones_of_others_keep_their_key():
    backbone = dict(type='ResNet', depth=18, pretrained='torchvision://resnet18')
    assert loaded(dict(type='MaskRCNN', backbone=backbone)).backbone == backbone


def test_classifiers(tmp_path):
    head = dict(type='LinearClsHead', num_classes=2, in_channels=16)
    found = loaded(dict(type='ImageClassifier', pretrained='mae_b', backbone=vitdet(), head=head), 'mmpretrain')
    assert found.backbone.init_cfg == START
    found = loaded(dict(type='ImageClassifier', pretrained='whole/file.pth', backbone=vitdet(), head=head),
                   'mmpretrain')
    assert found.pretrained == 'whole/file.pth'  # mmpretrain loads it into the whole classifier


@pytest.mark.parametrize('key', ['model.pretrained', 'model.backbone.pretrained'])
def test_as_an_option(key):
    options = [f'{key}=mae_b']
    assert loaded(dict(type='MaskRCNN', backbone=vitdet(init_cfg=None)), options=options).backbone.init_cfg == START
