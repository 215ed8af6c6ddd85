"""CBNet on any backbone, and detectors that also supervise its assistants."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from tests.backbones.registered import BACKBONES, disturb, image
from tests.backbones.small_configs import small_cfg
from tests.detr.small import INTERNIMAGE, WIDTH, dino_cfg, predict
from tests.hosts.test_matrix import samples
from vitdet_plugin.backbones.cbnet import CBNet
from vitdet_plugin.engine.layer_decay import parameter_groups
from vitdet_plugin.errors import UserError

SINGLE = [cls for cls in BACKBONES if cls is not CBNet]
CB = dict(type='CBNet', backbone=INTERNIMAGE, init_scale=0.1)


def composite(cls, **options) -> CBNet:
    torch.manual_seed(0)
    return disturb(CBNet(dict(type=cls.__name__, **small_cfg(cls)), **options))


@pytest.mark.parametrize('cls', SINGLE, ids=lambda cls: cls.__name__)
def test_of_any_backbone(cls):
    model = composite(cls, num_backbones=3, drop_path_rate=0.0)
    single = cls(**small_cfg(cls))
    assert (model.out_channels, model.out_strides) == (single.out_channels, single.out_strides)
    outs = model(image(model, 3, 2))
    assert [out.shape[1] for out in outs] == list(single.out_channels)
    assert len(model.forward_all(image(model))) == 3 and len(model.connections) == 2
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    ids = {model.get_layer_id(name) for name, _ in model.named_parameters()}
    assert ids == set(range(single.num_layers + 2)) and model.num_layers == single.num_layers
    stems = [sum(model.get_layer_id(name) == 0 for name, _ in model.named_parameters()
                 if name.startswith(f'backbones.{k}.')) for k in range(3)]
    shared = cls.stem_parts and cls.__name__ != 'VOLO'  # VOLO's position embedding is not part of the stem
    assert stems[0] and (stems[1:] == [0, 0] if shared else all(stems))


@pytest.mark.parametrize('cls', SINGLE, ids=lambda cls: cls.__name__)
def test_starts_as_a_single_backbone(cls):
    """With the initial factor of 0, assistants add nothing."""
    torch.manual_seed(0)
    model = CBNet(dict(type=cls.__name__, **small_cfg(cls)), share_stem=False).eval()
    x = image(model)
    with torch.no_grad():
        for found, expected in zip(model(x), model.backbones[-1](x), strict=True):
            torch.testing.assert_close(found, expected)


def test_one_checkpoint_starts_all_backbones(tmp_path):
    inner = {**INTERNIMAGE, 'init_cfg': dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))}
    torch.manual_seed(0)
    source = disturb(MODELS.build(INTERNIMAGE))
    torch.save({'model': source.state_dict()}, tmp_path / 'x.pth')
    model = CBNet(inner)
    model.init_weights()
    expected = source.state_dict()
    for k in (0, 1):
        state = model.backbones[k].state_dict()
        assert state and all(torch.equal(value, expected[name]) for name, value in state.items())
    assert 'patch_embed.conv1.weight' not in state and not any(scale.any() for scale in model.connections[0].scales)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(init_scale='a'), "init_scale='a' must be a number$"),
    (dict(num_backbones=1), 'num_backbones=1 must be a whole number of at least 2'),
    (dict(backbone=dict(type='CBNet', backbone=INTERNIMAGE)), "backbone.type='CBNet' is not a single backbone"),
    (dict(backbone=dict(type='ViTDet', arch=dict(embed_dim=16, depth=1, num_heads=2)), share_stem=True),
     'ViTDet has no stem that can be shared'),
])
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        CBNet(**{'backbone': INTERNIMAGE, **options})


def detector(cfg: dict, **options):
    init_default_scope('mmdet')
    from mmdet.registry import MODELS as DETECTORS
    torch.manual_seed(0)
    model = DETECTORS.build({**copy.deepcopy(cfg), 'detector': cfg['type'], 'type': 'CBDetector', **options})
    model.init_weights()
    return model


def retinanet() -> dict:
    from vitdet_plugin.config.loading import load_config
    cfg = load_config('mmdet::_base_/models/retinanet_r50_fpn.py').model
    cfg.backbone = CB
    cfg.neck.update(in_channels=[32, 64, 128], out_channels=WIDTH, start_level=0, num_outs=3)
    cfg.bbox_head.update(in_channels=WIDTH, feat_channels=WIDTH, stacked_convs=1, num_classes=3)
    cfg.bbox_head.anchor_generator.strides = [8, 16, 32]
    return cfg


@pytest.mark.parametrize('cfg', [lambda: dino_cfg(CB), retinanet], ids=['DINO', 'RetinaNet'])
def test_training_with_assistants_and_prediction_by_the_lead(cfg):
    cfg = cfg()
    model = detector(cfg).train()
    images = torch.randn(2, 3, 64, 96)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(4):
        losses = model.loss(images, samples(None))
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None for p in model.parameters())  # DDP without find_unused_parameters
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
    lead = {name: value for name, value in losses.items() if not name.startswith('assistant0.')}
    assert {f'assistant0.{name}' for name in lead if 'loss' in name} == set(losses) - set(lead)

    from mmdet.registry import MODELS as DETECTORS
    plain = DETECTORS.build(copy.deepcopy(cfg))  # the names of the weights are the same
    plain.load_state_dict(model.state_dict())
    shapes = [(64, 96), (64, 96)]
    for found, expected in zip(predict(model.eval(), images, shapes), predict(plain.eval(), images, shapes)):
        assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, rate=0.5, rule='plain')
    by_name = {name: group['lr'] for group in groups for name in group['param_names']}
    assert by_name['backbone.backbones.0.levels.0.blocks.0.mlp.fc1.weight'] == \
        by_name['backbone.backbones.1.levels.0.blocks.0.mlp.fc1.weight'] == 0.5 ** 5
    assert by_name['backbone.connections.0.scales.0'] == by_name['neck.' + next(
        name for name, _ in model.neck.named_parameters())] == 1.0


def test_the_weight_of_the_assistants():
    images = torch.randn(2, 3, 64, 96)
    found = {}
    for weight in (0.5, 0.25, 0):
        model = detector(retinanet(), assistant_weight=weight).eval()
        found[weight] = model.loss(images, samples(None))
    assert not any(name.startswith('assistant') for name in found[0])
    name = 'assistant0.loss_cls'
    torch.testing.assert_close(found[0.5][name][0], 2 * found[0.25][name][0])
    torch.testing.assert_close(found[0.5]['loss_cls'], found[0]['loss_cls'])


def test_a_detector_without_a_composite_is_an_error():
    cfg = dino_cfg()
    with pytest.raises(UserError, match=r"model\.backbone\.type='InternImage' has no assistants; set it to 'CBNet'"):
        detector(cfg)
    with pytest.raises(UserError, match="detector='NoDetector' is not a detector of mmdet"):
        detector({**cfg, 'type': 'NoDetector'})
