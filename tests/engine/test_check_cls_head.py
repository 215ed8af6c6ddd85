"""Heads of classifiers against what backbones return, before a training."""

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.backbones.registered import BACKBONES
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.engine.check_cls_head import check_cls_head, check_cls_loss
from vitdet_plugin.engine.check_weights import build_without_memory

WIDTH = 32
POOLING = dict(type='GlobalAveragePooling')


def findings(head, out_type=None, neck=None, width=WIDTH, backbone=None):
    import_scope('mmpretrain')
    init_default_scope('mmpretrain')
    backbone = backbone or dict(small_cfg(TimmViTDet), type='TimmViTDet', out_type=out_type)
    cfg = Config(dict(model=dict(type='ImageClassifier', backbone=backbone, neck=neck,
                                 head=dict(type=head, num_classes=3, in_channels=width))))
    return [finding.text for finding in check_cls_head(cfg, build_without_memory(cfg.to_dict()['model']))]


@pytest.mark.parametrize('head', ['LinearClsHead', 'VisionTransformerClsHead', 'MultiLabelLinearClsHead',
                                  'VectorClsHead'])
def test_heads_that_read_vectors(head):
    (text,) = findings(head, 'featmap')
    assert text == (f'model.head: {head} reads vectors, but the backbone TimmViTDet returns maps; set model.backbone.'
                    "out_type to 'cls_token' or 'avg_featmap', or set model.neck=dict(type='GlobalAveragePooling')")
    assert not findings(head, 'cls_token') and not findings(head, 'avg_featmap')
    assert not findings(head, 'featmap', neck=POOLING)
    assert not findings(head, 'cls_avg', width=2 * WIDTH)


def test_heads_that_read_maps():
    assert not findings('LayerNormClsHead', 'featmap')
    assert findings('LayerNormClsHead', 'cls_token') == [
        "model: the head LayerNormClsHead reads maps, but the backbone TimmViTDet returns vectors (out_type='cls_token'"
        "); set model.backbone.out_type='featmap'"]
    assert findings('LinearClsHead', 'avg_featmap', neck=POOLING) == [
        'model: the neck GlobalAveragePooling reads maps, but the backbone TimmViTDet returns vectors (out_type='
        "'avg_featmap'); set model.backbone.out_type='featmap', or model.neck=None"]


def test_other_widths():
    assert findings('LinearClsHead', 'cls_token', width=8) == [
        'model.head.in_channels=8, but the backbone TimmViTDet returns 32 channels; set it to 32']
    assert findings('LinearClsHead', 'cls_avg') == [
        'model.head.in_channels=32, but the backbone TimmViTDet returns 64 channels; set it to 64']


@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_every_backbone(cls):
    backbone = dict(small_cfg(cls), type=cls.__name__)
    width = cls(**small_cfg(cls)).out_channels[-1]
    (text,) = findings('LinearClsHead', backbone=backbone, width=width)
    assert f'LinearClsHead reads vectors, but the backbone {cls.__name__} returns maps' in text
    assert text.endswith("set model.neck=dict(type='GlobalAveragePooling')")
    assert not findings('LinearClsHead', backbone=backbone, width=width, neck=POOLING)
    assert not findings('LayerNormClsHead', backbone=backbone, width=width)


def test_a_backbone_that_pools():
    backbone = dict(small_cfg(VisionLSTM), type='VisionLSTM', pooling='bilateral_flatten')
    assert not findings('VisionLSTMClsHead', backbone=backbone, width=2 * WIDTH)
    assert findings('VisionLSTMClsHead', backbone=backbone) == [
        'model.head.in_channels=32, but the backbone VisionLSTM returns 64 channels; set it to 64']


@pytest.mark.parametrize('head', ['LinearClsHead', 'VectorClsHead'])
@pytest.mark.parametrize('option', ['use_sigmoid', 'use_soft'])
def test_a_loss_of_scores_with_one_label_an_image(head, option):
    import_scope('mmpretrain')
    init_default_scope('mmpretrain')

    def check(head=head, preprocessor=(), augments=None, **loss):
        model = dict(type='ImageClassifier', backbone=dict(small_cfg(TimmViTDet), type='TimmViTDet'),
                     head=dict(type=head, num_classes=3, in_channels=WIDTH, loss=dict(type='CrossEntropyLoss', **loss)),
                     data_preprocessor=dict(preprocessor, num_classes=3),
                     train_cfg=dict(augments=augments) if augments else None)
        return [finding.text for finding in check_cls_loss(build_without_memory(model))]

    text, = check(**{option: True})
    assert text.startswith(f'model.head.loss: CrossEntropyLoss({option}=True) requires a score for each class')
    assert check() == check(**{option: False}) == check(preprocessor=dict(to_onehot=True), **{option: True}) == []
    assert check(augments=dict(type='Mixup', alpha=0.8), **{option: True}) == []
    assert check('MultiLabelLinearClsHead', **{option: True}) == [] and check_cls_loss(None) == []
