"""The head of Vision-LSTM, standalone and in mmpretrain's classifier."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch.nn import functional as F

from tests.backbones.registered import disturb
from vitdet_plugin.heads.vil_cls_head import VisionLSTMClsHead


@pytest.mark.parametrize('legacy_norm', [True, False])
def test_logits(legacy_norm):
    head = disturb(VisionLSTMClsHead(3, 8, legacy_norm=legacy_norm))
    x = torch.randn(2, 8)
    normed = x
    if legacy_norm:
        normed = F.layer_norm(x, (8,), head.legacy_norm.weight, head.legacy_norm.bias, 1e-5)
    torch.testing.assert_close(head((x[..., None, None],)), F.linear(normed, head.fc.weight, head.fc.bias))


@pytest.mark.parametrize(('version', 'pooling', 'width'), [(1, 'bilateral_avg', 32), (2, 'bilateral_flatten', 64)])
def test_in_a_classifier_every_parameter_learns(version, pooling, width):
    import mmpretrain.models  # noqa: F401
    from mmpretrain.structures import DataSample
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    classifier = MODELS.build(dict(
        type='ImageClassifier',
        backbone=dict(type='VisionLSTM', arch=dict(dim=32, depth=2), img_size=64, version=version, pooling=pooling),
        head=dict(type='VisionLSTMClsHead', num_classes=4, in_channels=width, legacy_norm=version == 2)))
    classifier.init_weights()
    assert classifier.head.fc.weight.abs().max() < 2e-4
    disturb(classifier)
    samples = [DataSample().set_gt_label(label) for label in (0, 3)]
    classifier(torch.randn(2, 3, 64, 64), samples, mode='loss')['loss'].backward()
    assert not [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    with torch.no_grad():
        scores = [s.pred_score.sum().item() for s in classifier(torch.randn(2, 3, 96, 64), samples, mode='predict')]
    assert scores == pytest.approx([1, 1])
