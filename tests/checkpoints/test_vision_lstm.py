"""Vision-LSTM's published names: renamed weights load back, into classifiers, feature maps and detectors."""

import pytest
import torch
from torch import nn

from tests.backbones.registered import disturb
from tests.checkpoints.vision_lstm_names import in_training, published
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.heads.vil_cls_head import VisionLSTMClsHead


def classifier(version, seed, legacy_norm=True):
    torch.manual_seed(seed)
    pooling, width = ('bilateral_avg', 16) if version == 1 else ('bilateral_flatten', 32)
    backbone = VisionLSTM(dict(dim=16, depth=4), version=version, img_size=64, pooling=pooling, num_heads=2,
                          legacy_norm=legacy_norm and version == 1)
    return disturb(nn.ModuleDict(dict(
        backbone=backbone, head=VisionLSTMClsHead(3, width, legacy_norm=legacy_norm and version == 2))))


def official_file(path, model, naming, version):
    torch.save({'state_dict': {naming(name, version): value for name, value in model.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('naming', [published, in_training])
def test_classifiers(tmp_path, version, naming):
    source, target = classifier(version, 1), classifier(version, 2)
    path = official_file(tmp_path / 'vil.th', source, naming, version)
    report = load_official(target, path, allow_missing=False)
    assert report.recognized_as == f'Vision-LSTM {version}' + (', training' if naming is in_training else '')
    assert not report.dropped and not report.unexpected and len(report.matched) == len(source.state_dict())
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_version_1_without_the_training_codes_norm(tmp_path):
    source, target = classifier(1, 1, legacy_norm=False), classifier(1, 2, legacy_norm=False)
    load_official(target, official_file(tmp_path / 'vil.th', source, published, 1), allow_missing=False)
    assert torch.equal(target['backbone'].norm.weight, source['backbone'].norm.weight)


@pytest.mark.parametrize('version', [1, 2])
def test_a_classifiers_file_fills_a_backbone_of_maps(tmp_path, version):
    """At another size and stride: position embedding and patch kernel are resized, taps keep their own norms."""
    source = classifier(version, 1, legacy_norm=False)
    target = VisionLSTM(dict(dim=16, depth=4), version=version, img_size=(96, 128), num_heads=2, patch_size=8,
                        out_indices=(1, 3))
    report = load_official(target, official_file(tmp_path / 'vil.th', source, published, version))
    assert set(report.resized) == {'pos_embed', 'patch_embed.proj.weight'}
    assert report.missing == ['tap_norms.1.weight', 'tap_norms.1.bias']
    assert set(report.dropped.values()) == {'not part of a backbone'}
    for ours, theirs in zip(target.blocks.parameters(), source['backbone'].blocks.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(target.norm.weight, source['backbone'].norm.weight)


def test_a_classifiers_file_in_a_detector_without_its_head(tmp_path):
    source = classifier(2, 1)
    detector = nn.Module()
    detector.backbone = VisionLSTM(dict(dim=16, depth=4), img_size=64, num_heads=2)
    detector.neck = nn.Conv2d(1, 1, 1)
    report = load_official(detector, official_file(tmp_path / 'vil.th', source, published, 2))
    assert sorted(report.dropped) == ['head.fc.bias', 'head.fc.weight', 'head.legacy_norm.bias',
                                      'head.legacy_norm.weight']
    assert not report.missing


def test_own_files_are_recognized(tmp_path):
    source, target = classifier(2, 1), classifier(2, 2)
    torch.save(source.state_dict(), tmp_path / 'ours.pth')
    assert load_official(target, tmp_path / 'ours.pth', allow_missing=False).recognized_as == 'this project'
