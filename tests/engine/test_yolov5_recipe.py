"""Parts of the YOLOv5 training recipe: parameter groups, warmup, anchors, and a short run with all of them."""

import numpy as np
import pytest
import torch
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
from torch import nn

from tests.backbones.registered import BACKBONES, tiny
from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.engine.auto_anchor import AutoAnchorHook, best_possible_recall, fit_anchors, fitness, shape_match
from vitdet_plugin.engine.bias_warmup import BiasWarmupHook
from vitdet_plugin.engine.parameter_kinds import kind_groups
from vitdet_plugin.errors import UserError


@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_every_parameter_is_in_one_group_and_only_weights_decay(cls):
    model = nn.Module()
    model.backbone, model.neck = tiny(cls), nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
    groups = kind_groups(model, lr=0.1, weight_decay=0.5)
    assert sorted(id(p) for g in groups for p in g['params']) == sorted(id(p) for p in model.parameters())
    norms = {f'{prefix}.{leaf}' for prefix, m in model.named_modules() if 'Norm' in type(m).__name__
             for leaf, _ in m.named_parameters(recurse=False)}
    for group in groups:
        assert group['weight_decay'] == (0.5 if group['kind'] == 'weight' else 0)
        for name in group['param_names']:
            if name in norms or 'gamma' in name:
                assert group['kind'] in ('scale', 'bias'), name
            assert (group['kind'] == 'bias') == name.endswith('bias'), name


def test_kinds_of_convnext_parameters():
    from vitdet_plugin.backbones.convnext import ConvNeXtBackbone
    kinds = {name: g['kind'] for g in kind_groups(tiny(ConvNeXtBackbone), 1.0, 1.0) for name in g['param_names']}
    expected = {'stages.0.blocks.0.gamma': 'scale', 'stages.0.blocks.0.mlp.grn.weight': 'scale',
                'norm1.weight': 'scale', 'stages.0.blocks.0.mlp.grn.bias': 'bias',
                'stem.1.weight': 'scale', 'stages.0.blocks.0.mlp.fc1.weight': 'weight'}
    assert {name: kinds[name] for name in expected} == expected


def test_weights_with_one_output_and_four_dimensional_scales():
    model = nn.Sequential(nn.Conv2d(8, 1, 1), nn.Linear(1, 1))
    model.gain = nn.Parameter(torch.ones(1, 1, 1, 8))
    kinds = {name: g['kind'] for g in kind_groups(model, 1.0, 1.0) for name in g['param_names']}
    assert kinds == {'0.weight': 'weight', '0.bias': 'bias', '1.weight': 'weight', '1.bias': 'bias', 'gain': 'scale'}


def test_backbone_rate_and_frozen_parameters():
    model = nn.ModuleDict(dict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2)))
    model['head'].bias.requires_grad_(False)
    rates = {name: g['lr'] for g in kind_groups(model, 1.0, 0.1, backbone_lr_mult=0.1) for name in g['param_names']}
    assert rates == {'backbone.weight': 0.1, 'backbone.bias': 0.1, 'head.weight': 1.0}


def constructor(**paramwise):
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1))
    return OPTIM_WRAPPER_CONSTRUCTORS.get('ParameterKindConstructor')(wrapper, paramwise)


def test_unknown_keys_are_an_error():
    with pytest.raises(UserError, match='unknown keys: norm_decay_mult. Supported keys: backbone_lr_mult'):
        constructor(norm_decay_mult=0)(nn.Linear(1, 1))


class Runner:
    """The attributes of a runner that the hook uses."""

    def __init__(self, optimizer_groups):
        self.iter = 0
        self.optim_wrapper = type('W', (), dict(optimizer=type('O', (), dict(param_groups=optimizer_groups))))
        self.message_hub = type('M', (), dict(update_scalar=lambda self, *args: None))()
        self.train_dataloader = range(50)


@pytest.mark.parametrize('adam', [False, True])
def test_warmup_ends_at_the_scheduled_values(adam):
    groups = [dict(lr=0.01, kind=kind, **(dict(betas=(0.9, 0.99)) if adam else dict(momentum=0.937)))
              for kind in ('weight', 'bias')]
    runner, hook = Runner(groups), BiasWarmupHook(iters=10, bias_lr=0.1, momentum=0.8)
    hook.before_train(runner)
    seen = []
    for runner.iter in range(12):
        groups[0]['lr'] = groups[1]['lr'] = 0.01 - 0.0001 * runner.iter  # as the schedulers do
        hook.before_train_iter(runner, runner.iter)
        seen.append((groups[0]['lr'], groups[1]['lr'], groups[0]['betas'][0] if adam else groups[0]['momentum']))
        hook.after_train_iter(runner, runner.iter)
        assert groups[0]['lr'] == groups[1]['lr'] == pytest.approx(0.01 - 0.0001 * runner.iter)
    target = 0.9 if adam else 0.937
    assert seen[0] == pytest.approx((0, 0.1, 0.8))
    assert seen[5] == pytest.approx((0.0095 / 2, (0.1 + 0.0095) / 2, (0.8 + target) / 2))
    assert seen[10] == pytest.approx((0.009, 0.009, target)) and seen[11][0] == pytest.approx(0.0089)


def test_warmup_in_epochs_is_at_least_its_iterations():
    for epochs, length in ((3, 150), (1, 100)):
        hook = BiasWarmupHook(epochs=epochs, iters=100)
        hook.before_train(Runner([dict(lr=1, kind='bias')]))
        assert hook.length == length


def test_warmup_without_groups_of_biases_is_an_error():
    with pytest.raises(UserError, match="Set optim_wrapper.constructor='ParameterKindConstructor'"):
        BiasWarmupHook().before_train(Runner([dict(lr=1)]))


def sizes(seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(side, side / 10, (100, 2)).clip(3) for side in (8, 40, 300)])


def test_match_and_recall_of_known_sizes():
    found = shape_match(np.array([[10.0, 20], [100, 100]]), np.array([[10.0, 10], [30, 80]]))
    assert found.tolist() == [[0.5, 0.25], [pytest.approx(0.1), pytest.approx(0.3)]]
    assert best_possible_recall(np.array([[10.0, 20], [100, 100], [500, 5]]), np.array([[10.0, 10], [30, 80]])) == 2 / 3
    assert fitness(np.array([[10.0, 20], [500, 5]]), np.array([[10.0, 10]])) == 0.25


def test_fitted_anchors_match_and_evolution_does_not_reduce_the_fitness():
    start = fit_anchors(sizes(), 9, generations=0)
    found = fit_anchors(sizes(), 9, generations=200)
    assert found.shape == (9, 2) and (np.diff(found.prod(1)) >= 0).all()
    assert best_possible_recall(sizes(), found) == 1.0
    assert fitness(sizes(), found) >= fitness(sizes(), start) > 0.75
    assert np.array_equal(found, fit_anchors(sizes(), 9, generations=200))


def test_more_anchors_than_distinct_sizes():
    assert fit_anchors(np.full((5, 2), 20.0), 9, generations=10).shape == (9, 2)


def small_run(tmp_path, **head):
    """Build a runner of the demo config on a tiny dataset for two iterations."""
    from mmengine.config import Config
    from mmengine.runner import Runner as MMEngineRunner

    from tests.configs.loading import CONFIGS
    from vitdet_plugin.config.loading import load_config
    write_tiny_set(tmp_path / 'set', images=4)
    cfg = load_config(str(CONFIGS / 'yolov5/yolov5_convnext-mini_pafpn_demo.py'))
    init_default_scope('mmdet')
    for split in ('train', 'val'):
        leaf = cfg[f'{split}_dataloader'].dataset.dataset
        leaf.update(data_root=str(tmp_path / 'set'), ann_file='coco.json', data_prefix=dict(img='images/'),
                    metainfo=dict(classes=CLASSES))
        cfg[f'{split}_dataloader'].batch_size = 2
    cfg.test_dataloader = cfg.val_dataloader
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(tmp_path / 'set/coco.json')
    cfg.model.backbone.arch = dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    cfg.model.neck.update(in_channels=[8] * 3, out_channels=[8] * 3)
    cfg.model.bbox_head.update(in_channels=[8] * 3, num_classes=len(CLASSES), **head)
    cfg.update(work_dir=str(tmp_path / 'work'), visualizer=dict(type='DetLocalVisualizer', vis_backends=[]),
               train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2))
    cfg.default_hooks.checkpoint.interval = 2
    return MMEngineRunner.from_cfg(Config(cfg._cfg_dict.to_dict()))


def test_a_run_replaces_anchors_saves_them_and_validates(tmp_path):
    runner = small_run(tmp_path, anchors=[[(400.0, 2.0)] * 3] * 3)  # match no object
    runner.train()
    head = runner.model.bbox_head
    assert head.anchors.min() > 2 and head.anchors.max() < 200
    saved = torch.load(tmp_path / 'work/iter_2.pth', weights_only=False)
    assert torch.equal(saved['state_dict']['bbox_head.anchors'], head.anchors)  # state_dict holds the average
    assert torch.equal(saved['ema_state_dict']['module.bbox_head.anchors'], head.anchors)
    assert runner.message_hub.get_scalar('val/coco/bbox_mAP_50') is not None


def test_resuming_keeps_the_anchors_of_the_checkpoint():
    AutoAnchorHook(64).before_train(type('R', (), dict(_resume=True))())


def test_a_model_without_anchors_is_an_error():
    runner = type('R', (), dict(_resume=False, model=nn.Linear(1, 1)))()
    with pytest.raises(UserError, match='Use YOLOv5Head or remove the hook'):
        AutoAnchorHook(64).before_train(runner)
