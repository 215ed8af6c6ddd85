"""InternImage's files in every naming scheme and wrapping; which weights may be missing or unexpected."""

import pytest
import torch
from torch import nn

from tests.backbones.registered import disturb
from tests.checkpoints import internimage_names as rename
from vitdet_plugin.backbones.internimage import InternImage
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.internimage_cls_head import InternImageClipHead, InternImageClsHead

SMALL = dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8))
PLAIN = dict()
LIKE_S = dict(layer_scale=0.5, post_norm=True)
LIKE_H = dict(res_post_norm=True, center_feature_scale=True, dw_kernel_size=5, level2_post_norm_block_ids=(0, 1))


class Classifier(nn.Module):
    def __init__(self, clip: bool = False, classes: int = 10, **variant) -> None:
        super().__init__()
        self.backbone = InternImage(SMALL, out_indices=(2, 3), **variant)
        self.head = (InternImageClipHead(classes, (64, 128), embed_dim=32, clip_dim=16, num_heads=4) if clip
                     else InternImageClsHead(classes, 128))


def classifier(seed: int, **options) -> Classifier:
    torch.manual_seed(seed)
    return disturb(Classifier(**options))


def save(path, content):
    torch.save(content, path)
    return path


def assert_same(state: dict, expected: dict) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


@pytest.mark.parametrize('variant', [PLAIN, LIKE_S, LIKE_H, {**LIKE_H, 'clip': True}],
                         ids=['like T', 'like S', 'like H', 'clip'])
@pytest.mark.parametrize('naming', ['official', 'hugging_face', 'mmpretrain'])
def test_a_whole_classifier_in_every_naming_scheme(tmp_path, variant, naming):
    source, target = classifier(0, **variant), classifier(1, **variant)
    state = rename.official(source.state_dict())
    if naming != 'official':
        state = getattr(rename, naming)(state)
    lacks = ['head.pool.k.bias'] if naming == 'mmpretrain' and variant.get('clip') else []
    report = load_official(target, save(tmp_path / 'weights.pth', {'model': state}))
    assert report.missing == lacks and not report.dropped
    expected = source.state_dict()
    for name in lacks:
        expected[name] = target.state_dict()[name]
    assert_same(target.state_dict(), expected)


@pytest.mark.parametrize('wrapped', [
    lambda state: state, lambda state: {'model': state, 'optimizer': {'lr': 1.0}, 'epoch': 299},
    lambda state: {'model_ema': state}, lambda state: {'module': state},
    lambda state: {'state_dict': {f'module.backbone.{name}': value for name, value in state.items()}}],
    ids=['bare', 'model', 'model_ema', 'module', 'data parallel'])
def test_every_wrapping_into_a_backbone(tmp_path, wrapped):
    source, target = classifier(0, **LIKE_S), classifier(1, **LIKE_S).backbone
    state = {name: value for name, value in rename.official(source.state_dict()).items() if 'head' not in name}
    report = load_official(target, save(tmp_path / 'weights.pth', wrapped(state)))
    assert not report.missing and not report.dropped
    assert_same(target.state_dict(), source.backbone.state_dict())


@pytest.mark.parametrize('clip', [False, True])
def test_a_backbone_leaves_the_head_out(tmp_path, clip):
    source, target = classifier(0, clip=clip, **LIKE_H), classifier(1, **LIKE_H).backbone
    report = load_official(target, save(tmp_path / 'cls.pth', {'model': rename.official(source.state_dict())}))
    assert len(report.dropped) == len(source.head.state_dict()) and not report.missing
    assert set(report.dropped.values()) == {'not part of a backbone'}
    assert_same(target.state_dict(), source.backbone.state_dict())


def test_init_cfg_loads_after_random_initialization(tmp_path):
    source = classifier(0, **LIKE_S)
    path = save(tmp_path / 'cls.pth', {'model': rename.official(source.state_dict())})
    target = InternImage(SMALL, init_cfg=dict(type='Pretrained', checkpoint=str(path)), **LIKE_S)
    target.init_weights()
    assert_same(target.state_dict(), source.backbone.state_dict())


def test_layer_scale_that_the_file_lacks_keeps_its_value(tmp_path):
    """InternImage-T: detection uses a layer scale of 1, its classification file has none; outputs stay the same."""
    source, target = classifier(0).eval(), InternImage(SMALL, layer_scale=1.0).eval()
    report = load_official(target, save(tmp_path / 't.pth', {'model': rename.official(source.state_dict())}))
    assert len(report.missing) == 10 and all('gamma' in name for name in report.missing)
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(target(x)[2:], source.backbone(x))


@pytest.mark.parametrize('lost', ['levels.0.blocks.0.gamma1', 'levels.1.norm.0.weight', 'patch_embed.conv2.bias'])
def test_any_other_missing_weight_is_an_error(tmp_path, lost):
    variant = LIKE_S if 'gamma' in lost else PLAIN
    state = rename.official(classifier(0, **variant).state_dict())
    del state[lost]
    with pytest.raises(UserError, match='lacks 1 weights of the model'):
        load_official(classifier(1, **variant).backbone, save(tmp_path / 'x.pth', {'model': state}))


@pytest.mark.parametrize(('theirs', 'ours', 'word'), [
    (LIKE_S, PLAIN, 'gamma1'), (PLAIN, LIKE_S, 'levels.0.norm.weight'),
    (dict(res_post_norm=True), PLAIN, 'res_post_norm')])
def test_an_unexpected_weight_is_an_error(tmp_path, theirs, ours, word):
    path = save(tmp_path / 'x.pth', {'model': rename.official(classifier(0, **theirs).state_dict())})
    with pytest.raises(UserError, match=word):
        load_official(classifier(1, **ours).backbone, path)


def test_an_unknown_name_is_an_error(tmp_path):
    state = rename.official(classifier(0).state_dict()) | {'levels.0.blocks.0.attn.weight': torch.zeros(1)}
    with pytest.raises(UserError, match='attn.weight'):
        load_official(classifier(1), save(tmp_path / 'x.pth', {'model': state}))


def test_remove_center_takes_a_full_kernels_file(tmp_path):
    source, target = classifier(0).backbone, classifier(1, remove_center=True).backbone
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    report = load_official(target, save(tmp_path / 'x.pth', {'model': rename.official(state)}))
    assert len(report.resized) == 20
    mask, full = (model.levels[0].blocks[0].dcn.mask.bias.tolist() for model in (target, source))
    assert mask == full[:4] + full[5:]


def test_a_detectors_file(tmp_path):
    """mmdet 2 and mmdet 3 have the same names of neck and heads; mmdet 2's running averages are left out."""
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.neck = InternImage(SMALL, layer_scale=1.0), nn.ModuleDict({
                'lateral_convs': nn.ModuleList([nn.Conv2d(16, 8, 1)])})

    torch.manual_seed(0)
    source, target = disturb(Detector()), Detector()
    backbone = {name: value for name, value in source.state_dict().items() if name.startswith('backbone.')}
    state = {f'backbone.{name}': value for name, value in rename.official(backbone).items()}
    state |= {name: value for name, value in source.state_dict().items() if name.startswith('neck.')}
    state['ema_backbone_patch_embed_conv1_weight'] = torch.zeros(1)
    report = load_official(target, save(tmp_path / 'det.pth', {'state_dict': state, 'meta': {'epoch': 12}}))
    assert not report.missing and len(report.dropped) == 1
    assert_same(target.state_dict(), source.state_dict())


def test_fine_tuning_on_other_classes_keeps_all_but_the_last_layer(tmp_path):
    source, target = classifier(0, classes=20, **LIKE_S), classifier(1, **LIKE_S)
    own = {name: value.clone() for name, value in target.head.fc.state_dict().items()}
    path = save(tmp_path / '22k.pth', {'model': rename.official(source.state_dict())})
    report = load_official(target, path, other_classes=True)
    assert sorted(report.missing) == ['head.fc.bias', 'head.fc.weight']
    assert_same(target.head.fc.state_dict(), own)
    assert torch.equal(target.head.conv.weight, source.head.conv.weight)
    assert_same(target.backbone.state_dict(), source.backbone.state_dict())
