"""Learning rates and weight decay of named parameters, compared with hand-written values."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

import vitdet_plugin  # noqa: F401  registers
from vitdet_plugin.engine.layer_decay import parameter_groups
from vitdet_plugin.engine.parameter_kinds import kind_groups
from vitdet_plugin.errors import UserError

LR, DECAY, RATE, DEPTH = 1e-4, 0.1, 0.5, 3
# (layers from the top with L = 3, decays with rule d2, decays with rule plain)
EXPECTED = {
    'backbone.pos_embed': (4, False, False),
    'backbone.patch_embed.proj.weight': (4, True, True),
    'backbone.patch_embed.proj.bias': (4, True, False),
    'backbone.blocks.0.norm1.weight': (3, False, False),
    'backbone.blocks.0.attn.qkv.weight': (3, True, True),
    'backbone.blocks.0.attn.qkv.bias': (3, True, False),
    'backbone.blocks.0.attn.rel_pos_h': (3, True, False),
    'backbone.blocks.1.attn.rel_pos_w': (2, True, False),
    'backbone.blocks.2.mlp.fc2.weight': (1, True, True),
    'backbone.blocks.2.norm2.bias': (1, False, False),
    'backbone.blocks.2.residual.conv1.weight': (0, True, True),  # a new layer, not pretrained
    'backbone.blocks.2.residual.norm3.weight': (0, True, False),  # LayerNorm2d decays with d2
    'neck.levels.0.resize.0.bias': (0, True, False),
    'neck.levels.0.resize.1.weight': (0, True, False),
    'neck.levels.1.lateral.ln.weight': (0, True, False),
    'neck.levels.1.lateral.conv.weight': (0, True, True),
    'head.0.weight': (0, True, True),
    'head.1.weight': (0, False, False),  # GroupNorm
    'head.2.bias': (0, False, False),  # BatchNorm
}


def detector():
    model = nn.Module()
    model.backbone = MODELS.build(dict(
        type='ViTDet', arch=dict(embed_dim=16, depth=DEPTH, num_heads=2), img_size=64, window_size=2,
        pretrain_img_size=32, propagation='none', global_block_indexes=[1], residual_block_indexes=[2]))
    model.neck = MODELS.build(dict(type='SimpleFeaturePyramid', in_channels=16, out_channels=8))
    model.head = nn.Sequential(nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8), nn.BatchNorm2d(8))
    return model


def by_name(groups):
    found = {}
    for group in groups:
        assert len(group['params']) == len(group['param_names'])
        for name in group['param_names']:
            assert name not in found, f'{name} is in two groups'
            found[name] = group
    return found


def wrapper(model, paramwise=None, **optimizer):
    optimizer = {**dict(type='AdamW', lr=LR, weight_decay=DECAY), **optimizer}
    paramwise = dict(layer_decay_rate=RATE, no_decay='d2') if paramwise is None else paramwise
    return build_optim_wrapper(model, dict(constructor='LayerWiseDecayConstructor', paramwise_cfg=paramwise,
                                           optimizer=optimizer))


@pytest.mark.parametrize(('rule', 'column'), [('d2', 1), ('plain', 2)])
def test_learning_rates_and_weight_decay_of_parameters(rule, column):
    model = detector()
    groups = by_name(parameter_groups(model, lr=LR, weight_decay=DECAY, rate=RATE, rule=rule))
    assert set(groups) == {name for name, _ in model.named_parameters()}
    for name, expected in EXPECTED.items():
        assert groups[name]['lr'] == pytest.approx(LR * RATE ** expected[0]), name
        assert groups[name]['weight_decay'] == (DECAY if expected[column] else 0.0), name


@pytest.mark.parametrize('rate', [RATE, 1.0])
def test_a_factor_for_the_backbone(rate):
    whole = by_name(parameter_groups(detector(), lr=LR, weight_decay=DECAY, rate=rate, rule='plain'))
    found = parameter_groups(detector(), lr=LR, weight_decay=DECAY, rate=rate, rule='plain', backbone_lr_mult=0.1)
    assert [group['lr'] for group in found] == sorted(group['lr'] for group in found)
    for name, group in by_name(found).items():
        factor = 0.1 if name.startswith('backbone.') else 1.0
        assert group['lr'] == pytest.approx(factor * whole[name]['lr'])
    built = wrapper(detector(), dict(layer_decay_rate=rate, backbone_lr_mult=0.1))
    assert min(group['lr'] for group in built.optimizer.param_groups) == pytest.approx(found[0]['lr'])


def test_custom_keys_multiply_rates_and_decay():
    keys = {'head': dict(lr_mult=0.1), 'head.0': dict(decay_mult=0.5),
            'blocks.2.mlp': dict(lr_mult=2.0, decay_mult=0.0)}
    groups = by_name(wrapper(detector(), dict(layer_decay_rate=RATE, custom_keys=keys)).optimizer.param_groups)
    found = {name: (groups[name]['lr'] / LR, groups[name]['weight_decay'] / DECAY) for name in (
        'head.0.weight', 'head.2.weight', 'backbone.blocks.2.mlp.fc2.weight', 'backbone.blocks.1.mlp.fc2.weight')}
    assert found == {'head.0.weight': (1.0, 0.5),  # the longest part alone
                     'head.2.weight': (pytest.approx(0.1), 0.0), 'backbone.blocks.2.mlp.fc2.weight': (2 * RATE, 0.0),
                     'backbone.blocks.1.mlp.fc2.weight': (RATE ** 2, 1.0)}
    with pytest.raises(UserError, match=r'custom_keys has head=0.1. Give dict\(lr_mult=NUMBER'):
        parameter_groups(detector(), lr=LR, weight_decay=DECAY, rate=1.0, rule='d2', custom_keys={'head': 0.1})


@pytest.mark.parametrize('cfg', [
    dict(type='TimmViTDet', model=dict(family='Beit', embed_dim=32, depth=1, num_heads=2, use_rel_pos_bias=True),
         img_size=64, patch_size=16, window_size=2),
    dict(type='VOLOClsHead', num_classes=3, in_channels=16, num_heads=2)])
def test_plain_is_the_rule_of_the_constructor_by_kinds(cfg):
    model = MODELS.build(cfg)
    plain = by_name(parameter_groups(model, lr=LR, weight_decay=DECAY, rate=1.0, rule='plain'))
    kinds = by_name(kind_groups(model, LR, DECAY))
    decays = {name: group['weight_decay'] for name, group in plain.items()}
    assert decays == {name: group['weight_decay'] for name, group in kinds.items()}
    exempt = [name for name in decays if any(part in name for part in ('cls_token', 'pos_embed', 'relative_position'))]
    assert exempt and not any(decays[name] for name in exempt)  # as no_weight_decay() of timm's models


def test_rule_none_decays_everything():
    groups = parameter_groups(detector(), lr=LR, weight_decay=DECAY, rate=RATE, rule='none')
    assert {group['weight_decay'] for group in groups} == {DECAY}


def test_every_block_has_its_own_rate():
    groups = by_name(parameter_groups(detector(), lr=LR, weight_decay=DECAY, rate=0.7, rule='d2'))
    for name, group in groups.items():
        if name.startswith('backbone.blocks.') and 'residual' not in name:
            layer_id = int(name.split('.')[2]) + 1
            assert group['lr'] == pytest.approx(LR * 0.7 ** (DEPTH + 1 - layer_id)), name


def test_rate_one_gives_a_single_learning_rate():
    groups = parameter_groups(detector(), lr=LR, weight_decay=DECAY, rate=1.0, rule='plain')
    assert {group['lr'] for group in groups} == {LR} and len(groups) == 2


def test_frozen_and_shared_parameters():
    """Frozen parameters are in no group; a parameter with two names is in one group."""
    model = detector()
    model.twin = model.head[0]
    model.backbone.frozen_stages = 1
    model.train()
    groups = by_name(parameter_groups(model, lr=LR, weight_decay=DECAY, rate=RATE, rule='d2'))
    assert set(groups) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert 'backbone.pos_embed' not in groups and 'backbone.blocks.1.attn.rel_pos_h' in groups
    assert sum(name in groups for name in ('head.0.weight', 'twin.weight')) == 1


def test_built_through_the_config():
    model = detector()
    optimizer = wrapper(model).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    rates = sorted({round(group['lr'] / LR, 6) for group in optimizer.param_groups})
    assert rates == [RATE ** step for step in (4, 3, 2, 1, 0)]
    assert sum(len(group['params']) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_step_moves_parameters_by_their_own_rates():
    model = detector()
    optim = wrapper(model, type='SGD', lr=1.0, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optim.step()
    for name, (steps, _, _) in EXPECTED.items():
        moved = before[name] - dict(model.named_parameters())[name].detach()
        torch.testing.assert_close(moved, torch.full_like(moved, RATE ** steps), atol=1e-5, rtol=1e-5)


def test_a_data_parallel_wrapper_is_unwrapped():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = detector()

    names = by_name(wrapper(Wrapped()).optimizer.param_groups)
    assert 'backbone.pos_embed' in names


@pytest.mark.parametrize(('paramwise', 'message'), [
    (dict(no_decay='swin'), "unknown rule no_decay='swin'. Use one of d2, plain, none"),
    (dict(decay_rate=0.7), 'unknown keys: decay_rate. Supported keys: layer_decay_rate, no_decay'),
])
def test_errors_in_paramwise_cfg(paramwise, message):
    with pytest.raises(UserError, match=message):
        wrapper(detector(), paramwise)


def test_a_missing_learning_rate():
    with pytest.raises(UserError, match='optim_wrapper.optimizer has no lr'):
        build_optim_wrapper(detector(), dict(constructor='LayerWiseDecayConstructor', paramwise_cfg={},
                                             optimizer=dict(type='AdamW')))


def test_a_backbone_without_layer_ids_is_an_error():
    model = nn.Module()
    model.backbone = nn.Conv2d(1, 1, 1)
    with pytest.raises(UserError, match='layer_decay_rate=0.5, but the backbone Conv2d has no get_layer_id'):
        wrapper(model)
    assert wrapper(model, dict(layer_decay_rate=1.0)).optimizer.param_groups
