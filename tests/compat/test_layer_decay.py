"""mmdet's layer-wise learning rates: those of mmpretrain's ConvNeXt, or one line that says what to use."""

import collections

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from tests.backbones.registered import BACKBONES, tiny
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.errors import UserError

DEPTHS, DIMS = (1, 1, 9, 1), (8, 16, 24, 32)


def optimizer(backbone, **paramwise):
    model = nn.Module()
    model.backbone, model.head = backbone, nn.Linear(2, 2)
    paramwise = {**dict(decay_rate=0.5, decay_type='layer_wise', num_layers=6), **paramwise}
    return build_optim_wrapper(model, dict(
        constructor='mmdet.LearningRateDecayOptimizerConstructor', paramwise_cfg=paramwise,
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05))).optimizer


def weights_by_rate(groups):
    """Return (learning rate, weight decay) -> number of weights."""
    found = collections.Counter()
    for group in groups:
        found[group['lr'], group['weight_decay']] += sum(p.numel() for p in group['params'])
    return found


@pytest.mark.parametrize('use_grn', [False, True])
@pytest.mark.parametrize('paramwise', [dict(), dict(decay_type='stage_wise'), dict(num_layers=12)])
def test_the_convnext_of_the_project_has_the_rates_of_that_of_mmpretrain(use_grn, paramwise):
    import_scope('mmpretrain')
    arch, last = dict(depths=DEPTHS), (0, 1, 2, 3)
    own = MODELS.build(dict(type='ConvNeXtBackbone', arch=dict(arch, dims=DIMS, use_grn=use_grn), out_indices=last,
                            layer_scale_init_value=0.0 if use_grn else 1e-6))
    other = MODELS.build(dict(type='mmpretrain.ConvNeXt', arch=dict(arch, channels=DIMS), out_indices=last,
                              gap_before_final_norm=False, use_grn=use_grn,
                              layer_scale_init_value=0.0 if use_grn else 1e-6))
    own, other = (weights_by_rate(optimizer(each, **paramwise).param_groups) for each in (own, other))
    assert own == other and len({rate for rate, _ in own}) == (6 if 'decay_type' in paramwise else 8)


def test_the_stem_has_the_lowest_rate():
    own = MODELS.build(dict(type='ConvNeXtBackbone', arch=dict(depths=DEPTHS, dims=DIMS)))
    for kind, steps in dict(layer_wise=7, stage_wise=7).items():
        rates = {name: group['lr'] for group in optimizer(own, decay_type=kind).param_groups
                 for name in group['param_names']}
        assert rates['backbone.stem.0.weight'] == min(rates.values()) == 0.5 ** steps and rates['head.weight'] == 1


@pytest.mark.parametrize('cls', [cls for cls in BACKBONES if cls.__name__ != 'ConvNeXtBackbone'],
                         ids=lambda cls: cls.__name__)
@pytest.mark.parametrize('kind', ['layer_wise', 'stage_wise'])
def test_other_backbones_name_the_constructor_of_the_project(cls, kind):
    says = (rf"supports ConvNeXt only, not {cls.__name__}. Use constructor='LayerWiseDecayConstructor' with "
            r'paramwise_cfg=dict\(layer_decay_rate=0.5\)')
    with pytest.raises(UserError, match=says):
        optimizer(tiny(cls), decay_type=kind)


def test_more_layers_than_the_recipe_has():
    own = MODELS.build(dict(type='ConvNeXtBackbone', arch=dict(depths=(1, 1, 27, 1), dims=DIMS)))
    with pytest.raises(UserError, match='num_layers=6, but this ConvNeXtBackbone has 12 layers. Set it to 12'):
        optimizer(own)


def test_backbones_of_others_are_left_to_mmdet():
    with pytest.raises(NotImplementedError):
        optimizer(nn.Conv2d(1, 1, 1))
