"""OpenGVLab's DINO on two InternImages: names, size, and equality of the composite with an independent form."""

import pytest
import torch
import torch.nn.functional as F

from tests.checkpoints import internimage_names
from tests.configs.loading import built, load
from tests.detr.mmdet2_names import dino_head_names, mmdet2
from tests.detr.small import build, dino_cfg
from vitdet_plugin.backbones.internimage import InternImage
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.checkpoints.published import find_published

# the variant of H
INNER = dict(type='InternImage', arch=dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8)),
             out_indices=(1, 2, 3), res_post_norm=True, center_feature_scale=True, dw_kernel_size=5,
             level2_post_norm_block_ids=(0,))
COMPOSITE = dict(type='CBNet', backbone=INNER)
NAME = 'dino_cb-internimage-h_4scale_objects365_coco'


def official_backbone(state: dict) -> dict:
    """Names of the composite in OpenGVLab's files."""
    renamed = {}
    for k in (0, 1):
        prefix = f'backbone.backbones.{k}.'
        part = {name.replace(prefix, 'backbone.'): value for name, value in state.items() if name.startswith(prefix)}
        renamed |= {f'backbone.cb_modules.{k}.{name}': value
                    for name, value in internimage_names.official(part).items()}
    for name, value in state.items():
        if name.startswith('backbone.connections.0.scales.'):
            renamed[f'backbone.cb_modules.1.gamma{name[-1]}'] = value
        elif name.startswith('backbone.connections.0.convs.'):
            renamed[name.replace('connections.0.convs', 'cb_linears')] = value
    return renamed


def official(state: dict) -> dict:
    renamed = mmdet2(state, backbone=official_backbone)
    return {name.replace('neck.', 'neck.0.', 1) if name.startswith('neck.') else name: value
            for name, value in renamed.items()}


def test_every_weight_of_the_official_names(tmp_path):
    source, target = (build(dino_cfg(COMPOSITE), seed) for seed in (0, 1))
    torch.save({'state_dict': official(source.state_dict())}, tmp_path / 'cb.pth')
    report = load_official(target, tmp_path / 'cb.pth', allow_missing=False)
    assert report.recognized_as == "OpenGVLab's DINO on two InternImages"
    assert not (report.dropped or report.missing or report.unexpected)
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())


def test_names_and_size_of_the_published_model():
    model = built(f'dino/{NAME}')
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(2.18e9, rel=0.01) and parameters == 2_178_558_124
    names = official(model.state_dict())
    heads = {name.replace('neck.', 'neck.0.') for name in dino_head_names()}
    assert {name for name in names if not name.startswith('backbone.')} == heads
    parts = {'.'.join(name.split('.')[:3]) for name in names if name.startswith('backbone.')}
    assert parts == {'backbone.cb_modules.0', 'backbone.cb_modules.1', *(f'backbone.cb_linears.{i}' for i in range(3))}
    assert not any(name.startswith('backbone.cb_modules.1.patch_embed') for name in names)
    shapes = {name: tuple(value.shape) for name, value in names.items() if 'cb_linears' in name or '1.gamma' in name}
    assert {name: shape for name, shape in shapes.items() if len(shape) == 4} == {
        'backbone.cb_linears.0.1.weight': (320, 640, 1, 1), 'backbone.cb_linears.0.2.weight': (320, 1280, 1, 1),
        'backbone.cb_linears.0.3.weight': (320, 2560, 1, 1), 'backbone.cb_linears.1.1.weight': (640, 1280, 1, 1),
        'backbone.cb_linears.1.2.weight': (640, 2560, 1, 1), 'backbone.cb_linears.2.1.weight': (1280, 2560, 1, 1)}
    assert [shapes[f'backbone.cb_modules.1.gamma{i}'] for i in range(4)] == [(320,), (640,), (1280,), (2560,)]


def test_recipe():
    cfg = load(f'dino/{NAME}')
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, cfg.train_dataloader.batch_size) == (20_000, 200, 1)
    assert cfg.model.assistant_weight == 0.5 and cfg.model.dn_cfg.group_cfg.num_dn_queries == 1000
    inner = cfg.model.backbone.backbone
    assert (inner.drop_path_rate, inner.with_cp, inner.out_indices) == (0.5, True, (1, 2, 3))
    train, test = cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline
    assert train[3].scale == [(2000, 600), (2000, 1800)] and test[1].scale == (2000, 1000)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (1e-4, 1e-4)
    assert find_published(NAME).url.endswith('/dino_4scale_cbinternimage_h_objects365_coco.pth')
    assert find_published(cfg.load_from).url.endswith('/dino_4scale_cbinternimage_h_objects365_80classes.pth')


def test_maps_equal_an_independent_form(tmp_path):
    """Two InternImages run level by level; the second receives the maps of the first (arXiv 2107.00420, DHLC)."""
    model = build(COMPOSITE, 0)
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    weights = official_backbone(state)
    assistant, lead = model.backbones
    images = torch.randn(2, 3, 52, 68)  # sides that no level divides
    with torch.no_grad():
        x = stem = assistant.patch_embed(images)
        maps = []
        for level in assistant.levels:
            out = level(x, assistant.checkpointed)
            maps.append(out.permute(0, 3, 1, 2))
            x = level.downsample(out) if level.downsample is not None else out
        x, expected = stem, []
        for i, level in enumerate(lead.levels):
            total = torch.zeros_like(maps[i])
            for j in range(4 - i):
                part, name = maps[i + j], f'backbone.cb_linears.{i}.{j}'
                if f'{name}.weight' in weights:
                    part = F.conv2d(part, weights[f'{name}.weight'], weights[f'{name}.bias'])
                total += F.interpolate(part, maps[i].shape[2:])
            out = level(x + weights[f'backbone.cb_modules.1.gamma{i}'] * total.permute(0, 2, 3, 1), lead.checkpointed)
            expected.append(out.permute(0, 3, 1, 2))
            x = level.downsample(out) if level.downsample is not None else out
        found = model(images)
        assert isinstance(assistant, InternImage)
        for left, right in zip(found, expected[1:], strict=True):
            torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)
        every = model.forward_all(images)
        for left, right in zip(every[0], maps[1:], strict=True):
            torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)
