"""Classification heads in mmpretrain's classifier."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch.nn import functional as F

from tests.backbones.registered import tiny
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.heads.cls_head import LayerNormClsHead, VectorClsHead


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


def samples(labels):
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(label) for label in labels]


def test_logits_are_the_normalized_average_of_the_last_map():
    head = LayerNormClsHead(num_classes=3, in_channels=8)
    head.init_weights()
    x = torch.randn(2, 8, 3, 5)
    pooled = F.layer_norm(x.mean((2, 3)), (8,), eps=1e-6)
    torch.testing.assert_close(head((torch.randn(2, 4, 6, 10), x)), pooled @ head.fc.weight.T + head.fc.bias)


def test_vectors_of_a_backbone():
    head = VectorClsHead(num_classes=3, in_channels=8, init_std=0.5)
    head.init_weights()
    feats = (torch.randn(2, 4), torch.randn(2, 8))
    torch.testing.assert_close(head(feats), feats[1] @ head.fc.weight.T)
    assert 0.2 < head.fc.weight.std() < 0.8
    from mmpretrain.models.heads import LinearClsHead
    assert LinearClsHead(3, 8).state_dict().keys() == head.state_dict().keys()


def test_index_and_soft_targets_agree():
    head = LayerNormClsHead(num_classes=3, in_channels=8)
    head.init_weights()
    feats, hard, soft = (torch.randn(2, 8, 1, 1),), samples([2, 0]), samples([2, 0])
    for sample in soft:
        sample.set_gt_score(F.one_hot(sample.gt_label, 3)[0].float())
    torch.testing.assert_close(head.loss(feats, hard)['loss'], head.loss(feats, soft)['loss'])


@pytest.mark.parametrize('loss', [
    None, dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    dict(type='CrossEntropyLoss', use_soft=False)])
def test_in_a_classifier(loss):
    import mmpretrain.models  # noqa: F401
    classifier = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='ViTDet', **small_cfg(ViTDet)),
        head=dict(type='LayerNormClsHead', num_classes=4, in_channels=32, loss=loss)))
    classifier.init_weights()
    classifier.backbone.load_state_dict(tiny(ViTDet).state_dict())
    image = torch.randn(3, 3, 96, 64)
    found = classifier(image, samples([0, 3, 1]), mode='loss')
    found['loss'].backward()
    assert classifier.backbone.patch_embed.proj.weight.grad.any() and classifier.head.fc.weight.grad.any()
    classifier.eval()
    predicted = classifier(image, samples([0, 3, 1]), mode='predict')
    logits = classifier(image, mode='tensor')
    for sample, row in zip(predicted, logits):
        torch.testing.assert_close(sample.pred_score, row.softmax(0))
        assert sample.pred_label == row.argmax()
