"""Cases of InternImage: reference outputs for generated weights and inputs, and feature maps of the backbone."""

import pytest
import torch

from tests.checkpoints.internimage_names import official
from tests.parity.cases import write_folder
from tests.parity.goldens import run_case
from tests.parity.internimage import Classifier

SIZES = dict(channels=16, depths=[1, 1, 2, 1], groups=[1, 2, 4, 8], num_classes=10, norm_layer='LN', offset_scale=1.0,
             mlp_ratio=4.0, drop_path_rate=0.0)
# Results of the official classifier for the cases internimage_{t,s,h}_like: seed, constructor arguments, input shape,
# logits of the first image, L2 norms of gradients. Weights and inputs are generated below.
CASES = {
    't_like': (31, dict(layer_scale=1.0, post_norm=False), (2, 3, 64, 64), [
        -0.213830, -0.380946, 0.660845, -0.636514, -0.120685, 0.546226, -0.259934, -0.147125, -0.222466, 0.219541], {
        'conv_head.0.weight': 1.185165, 'levels.0.blocks.0.gamma1': 0.008694, 'patch_embed.conv1.weight': 0.223017,
        'levels.2.blocks.1.dcn.offset.weight': 0.003043, 'levels.3.norm.0.bias': 0.070780}),
    's_like': (32, dict(layer_scale=1.0, post_norm=True), (1, 3, 64, 96), [
        0.041647, 0.344173, -0.086402, 0.201942, -0.102485, -0.166664, 0.192641, -0.091645, 0.088347, -0.236349], {
        'conv_head.0.weight': 2.136139, 'levels.0.blocks.0.gamma1': 0.025903, 'patch_embed.conv1.weight': 0.124374,
        'levels.2.blocks.1.dcn.offset.weight': 0.007963}),
    'h_like': (33, dict(
        depths=[1, 1, 4, 1], layer_scale=None, post_norm=False, dw_kernel_size=5, level2_post_norm=True,
        level2_post_norm_block_ids=[1, 3], res_post_norm=True, center_feature_scale=True), (1, 3, 96, 64), [
        -0.371810, 0.516211, 0.345122, -0.055658, 0.437316, 0.077494, -0.298457, 0.203063, 0.349573, 0.232646], {
        'levels.2.blocks.3.dcn.center_feature_scale_proj_weight': 0.000796, 'levels.2.post_norms.1.0.weight': 0.039445,
        'levels.3.norm.0.bias': 0.054718, 'patch_embed.conv1.weight': 0.027891, 'conv_head.0.weight': 1.339678}),
}


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw(state: dict, seed: int) -> dict:
    """Generate weights with one generator in the order of the names, parameters first, then running statistics."""
    generator, drawn = torch.Generator().manual_seed(seed), {}
    statistics = sorted(name for name in state if 'running' in name)
    for name in sorted(name for name in state if 'running' not in name and 'tracked' not in name):
        values = torch.randn(state[name].shape, generator=generator)
        if values.ndim > 1:
            drawn[name] = values * 0.5 / values[0].numel() ** 0.5
        else:
            near_one = 'norm' in name and name.endswith('weight') or 'gamma' in name
            drawn[name] = values * 0.2 + near_one
    for name in statistics:
        if 'mean' in name:
            drawn[name] = 0.1 * torch.randn(state[name].shape, generator=generator)
        else:
            drawn[name] = 1 + 0.2 * torch.rand(state[name].shape, generator=generator)
    return {**state, **drawn}


def rebuilt(folder, name):
    seed, variant, shape, logits, norms = CASES[name]
    config = {**SIZES, **variant}
    weights = draw(official(Classifier(config).state_dict()), seed)
    expected = {f'gradnorm.param.{key}': torch.tensor([value]) for key, value in norms.items()}
    expected['cotangent.out'] = normal((shape[0], 10), seed + 2)
    return folder, 'internimage', config, weights, {'input0': normal(shape, seed + 1)}, expected, logits


@pytest.mark.parametrize('name', CASES)
def test_reference_outputs_for_generated_weights(tmp_path, name, monkeypatch):
    *case, expected, logits = rebuilt(tmp_path / name, name)
    found = {}

    def record(verdict, key, ours, theirs):
        found[key] = ours.detach()
        verdict.add(key, 0.0, 1.0)

    monkeypatch.setattr('tests.parity.goldens.Verdict.compare', record)
    run_case(write_folder(*case, {'out.out': torch.zeros(case[-1]['input0'].shape[0], 10), **expected}))
    assert found['out.out'][0].tolist() == pytest.approx(logits, abs=2e-5)
    for key, value in CASES[name][-1].items():
        assert found[f'gradnorm.param.{key}'].item() == pytest.approx(value, rel=1e-3, abs=2e-6), key


def test_a_wrong_output_fails(tmp_path):
    *case, expected, logits = rebuilt(tmp_path / 's_like', 's_like')
    good = {'out.out': torch.tensor([logits]), **expected}
    verdict = run_case(write_folder(*case, good))
    assert verdict.errors['out.out'] < 1e-4  # six decimals are recorded
    case[0] = tmp_path / 'wrong'
    assert not run_case(write_folder(*case, {**good, 'out.out': torch.tensor([logits]) + 0.01})).passed


def test_clip_projector_and_maps_of_the_backbone(tmp_path):
    """Cases without recorded outputs: the head of H and G, and feature maps instead of logits."""
    config = {**SIZES, 'use_clip_projector': True}
    model = Classifier(config).eval()
    x = normal((1, 3, 64, 64), 0)
    with torch.no_grad():
        logits, maps = model(x), model.backbone(x)
    weights = official(model.state_dict())
    case = write_folder(tmp_path / 'clip', 'internimage', config, weights, {'input0': x}, {'out.out': logits})
    assert run_case(case).passed
    backbone = {name: value for name, value in weights.items() if name.startswith(('patch_embed', 'levels'))}
    case = write_folder(tmp_path / 'maps', 'internimage', {**SIZES, 'out_indices': [2, 3]}, backbone, {'input0': x},
                        {'out.out2': maps[0], 'out.out3': maps[1]})
    assert run_case(case).passed
