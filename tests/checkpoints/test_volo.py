"""VOLO's published weights (timm's have the same names) in a classifier, a detector's backbone, at other sizes."""

import pytest
import torch
from mmengine.registry import MODELS
from timm.models.volo import VOLO as Peer

from tests.backbones.registered import disturb
from tests.backbones.test_volo import ARCH, SIZES
from vitdet_plugin.backbones.volo import VOLO
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.volo_cls_head import VOLOClsHead


class Classifier(torch.nn.Module):
    def __init__(self, num_classes=7, img_size=64, dense=True):
        super().__init__()
        self.backbone = VOLO(ARCH, img_size=img_size)
        self.head = VOLOClsHead(num_classes, 32, 4, dense=dense)

    def forward(self, x):
        return self.head(self.backbone(x))


@pytest.fixture
def peer():
    torch.manual_seed(0)
    return disturb(Peer(num_classes=7, img_size=64, **SIZES)).eval()


@pytest.fixture
def path(peer, tmp_path):
    torch.save({'state_dict': peer.state_dict(), 'arch': 'volo_d1'}, tmp_path / 'volo.pth.tar')
    return tmp_path / 'volo.pth.tar'


def test_a_classifier_takes_every_weight_and_computes_the_same(peer, path):
    ours = Classifier().eval()
    report = load_official(ours, path, allow_missing=False)
    assert report.recognized_as == 'VOLO' and len(report.matched) == len(peer.state_dict()) and not report.dropped
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), peer(x), atol=1e-5, rtol=1e-5)


def test_a_detection_backbone_takes_the_backbones_part(peer, path):
    backbone = VOLO(ARCH, img_size=64, out_indices=(0, 1, 2), init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    backbone.init_weights()
    report = load_official(backbone, path)
    assert set(report.missing) == {f'out_norms.{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')}
    assert set(report.dropped.values()) == {'not part of a backbone'}
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64)
        tokens = peer.forward_tokens(peer.patch_embed(x).permute(0, 2, 3, 1)).view(1, 4, 4, 32)
        torch.testing.assert_close(backbone.eval()(x)[1], backbone.out_norms[1](tokens).permute(0, 3, 1, 2),
                                   atol=1e-5, rtol=1e-5)


def test_positions_of_another_grid_are_resized(peer, path):
    ours = Classifier(img_size=(96, 128))
    report = load_official(ours, path)
    assert report.resized == {'backbone.pos_embed': '(1, 4, 4, 32) to (1, 6, 8, 32)'}
    expected = torch.nn.functional.interpolate(peer.pos_embed.permute(0, 3, 1, 2), size=(6, 8), mode='bicubic')
    torch.testing.assert_close(ours.backbone.pos_embed.permute(0, 3, 1, 2), expected)


def test_fine_tuning_on_other_classes(peer, path):
    """Class attention comes from the file; classifiers of other classes are re-initialized."""
    for num_classes, dense in ((3, False), (3, True), (7, True)):
        init_cfg = dict(type='Pretrained', checkpoint=str(path))
        head = MODELS.build(dict(type='VOLOClsHead', num_classes=num_classes, in_channels=32, num_heads=4, dense=dense,
                                 init_cfg=init_cfg))
        head.init_weights()
        state, own = peer.state_dict(), head.state_dict()
        for name in ('cls_token', 'post_network.1.attn.kv.weight', 'norm.bias'):
            assert torch.equal(own[name], state[name])
        assert (num_classes == 7) == torch.equal(own['fc.weight'], state['head.weight'])
        assert ('aux_head.weight' in own) == dense


def test_a_whole_classifier_for_other_classes(path):
    """As ``load_from`` reads it: both classifiers keep their own weights."""
    ours = Classifier(num_classes=3)
    report = load_official(ours, path, other_classes=True)
    assert set(report.dropped) == {f'head.{name}.{kind}' for name in ('fc', 'aux_head') for kind in ('weight', 'bias')}


def test_a_head_of_another_width_is_refused(path):
    head = VOLOClsHead(3, 48, 4, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    with pytest.raises(UserError, match='cls_token is'):
        head.init_weights()


def test_an_own_backbone_is_not_recognized_as_a_published_file(tmp_path):
    source, target = disturb(VOLO(ARCH, out_indices=(0, 1, 2))), VOLO(ARCH, out_indices=(0, 1, 2))
    torch.save(source.state_dict(), tmp_path / 'own.pth')
    report = load_official(target, tmp_path / 'own.pth', allow_missing=False)
    assert report.recognized_as == 'a backbone of this project' and not report.missing
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))
