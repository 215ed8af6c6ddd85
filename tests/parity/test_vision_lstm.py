"""Cases of Vision-LSTM: reference outputs for generated weights and inputs, other arguments, and errors."""

import pytest
import torch

from tests.checkpoints.vision_lstm_names import published
from tests.parity.cases import write_folder
from tests.parity.goldens import Case, run_case
from tests.parity.vision_lstm import Model
from vitdet_plugin.errors import UserError

V1 = dict(dim=48, depth=4, patch_size=16, input_shape=[3, 64, 64], output_shape=[10], pooling='bilateral_avg')
V2 = dict(V1, depth=2, pooling='bilateral_flatten', legacy_norm=True)
FEATURES = dict(V2, input_shape=[3, 64, 96], output_shape=None, mode='features', pooling='to_image', legacy_norm=False)
# Results of the official models for vil1_avg, vil2_flatten and vil2_features: version, seed, arguments, batch size,
# first outputs, L2 norms of gradients. Weights and inputs are generated below.
CASES = {
    'vil1_avg': (1, 43, V1, 2, [-0.221806, -0.743127, -0.439036, 0.398452, 0.080857], {
        'blocks.1.layer.conv1d.conv.weight': 4.200145, 'blocks.3.layer.mlstm_cell.igate.weight': 1.213272,
        'blocks.2.layer.learnable_skip': 0.318903, 'norm.weight': 2.642071, 'pos_embed.embed': 7.360166}),
    'vil2_flatten': (2, 41, V2, 2, [0.167877, -0.98151, -0.635974, 0.325854, 0.144401], {
        'blocks.1.rowwise_from_bot_right.layer.conv.weight': 2.820545, 'legacy_norm.weight': 2.204169,
        'blocks.1.rowwise_from_top_left.layer.mlstm_cell.fgate.weight': 0.786364, 'pos_embed.embed': 5.106263}),
    'vil2_features': (2, 42, FEATURES, 1, [-0.587834, 1.554881, 0.421429, 1.402126, 2.555358], {
        'blocks.1.rowwise_from_bot_right.layer.k_proj.bias': 497.324432, 'norm.weight': 37.66246,
        'blocks.1.rowwise_from_top_left.layer.proj_down.weight': 685.860107, 'pos_embed.embed': 177.970322}),
}


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw(state: dict, seed: int) -> dict:
    """Generate weights with one generator in the order of their official names."""
    generator, drawn = torch.Generator().manual_seed(seed), {}
    for name in sorted(state):
        values = torch.randn(state[name].shape, generator=generator)
        if values.ndim > 1:
            drawn[name] = values * 0.5 / values[0].numel() ** 0.5
        else:
            drawn[name] = values * 0.2 + ('norm' in name and name.endswith('weight'))
    return drawn


def weights_of(config, version, seed):
    """Generate weights with the names and shapes of the reference."""
    known = {'blocks.0.layer.conv.weight': torch.zeros(1, 1, 4 if version == 1 else 3)}
    if config.get('legacy_norm'):
        known['legacy_norm.weight'] = torch.zeros(())
    model = Model(Case(None, '', config, known, {}, {}), version)
    return draw({published(name, version): value for name, value in model.state_dict().items()}, seed)


@pytest.fixture
def recorded(monkeypatch):
    """Return the compared tensors by name, recorded instead of compared."""
    found = {}

    def record(verdict, key, ours, theirs):
        found[key] = ours.detach()
        verdict.add(key, 0.0, 1.0)

    monkeypatch.setattr('tests.parity.goldens.Verdict.compare', record)
    return found


@pytest.mark.parametrize('name', CASES)
def test_reference_outputs_for_generated_weights(tmp_path, name, recorded):
    version, seed, config, batch, first, norms = CASES[name]
    out = (batch, 10) if config['output_shape'] else (batch, 48, 4, 6)
    expected = {f'gradnorm.param.{key}': torch.tensor([value]) for key, value in norms.items()}
    expected |= {'cotangent.out': normal(out, seed + 2), 'out.out': torch.zeros(out)}
    run_case(write_folder(tmp_path / name, f'vil{version}', config, weights_of(config, version, seed),
                          {'input0': normal((batch, *config['input_shape']), seed + 1)}, expected))
    assert recorded['out.out'].flatten()[:5].tolist() == pytest.approx(first, abs=2e-5)
    for key, value in norms.items():
        assert recorded[f'gradnorm.param.{key}'].item() == pytest.approx(value, rel=1e-3), key


@pytest.mark.parametrize(('version', 'changes', 'shape'), [
    (1, dict(output_shape=None, mode='features', pooling=None), (1, 16, 48)),
    (1, dict(alternation='unidirectional', dim=24), (1, 10)),
    (1, dict(legacy_norm=True, depth=2), (1, 10)),
    (1, dict(output_shape=None, mode='features', pooling='to_image', legacy_norm=True), (1, 48, 4, 4)),
    (1, dict(pooling='bilateral_flatten'), (1, 10)),
    (2, dict(pooling='bilateral_avg', depth=1), (1, 10)),
    (2, dict(proj_bias=False, norm_bias=False, legacy_norm=False, depth=1), (1, 10)),
    (2, dict(patch_size=8, depth=1), (1, 10)),
    (2, dict(output_shape=None, mode='features', pooling=None, depth=1, legacy_norm=False), (1, 16, 48)),
])
def test_other_arguments(tmp_path, version, changes, shape, recorded):
    """All weights are loaded and have a gradient, and the output has the expected shape."""
    config = {**(V1 if version == 1 else V2), **changes}
    weights = weights_of(config, version, 1)
    assert any(name.endswith('proj_up.bias') for name in weights) == (version == 2 and config.get('proj_bias', True))
    expected = {'out.out': torch.zeros(shape), 'cotangent.out': normal(shape, 3),
                **{f'gradnorm.param.{name}': torch.zeros(1) for name in weights}}
    run_case(write_folder(tmp_path / 'case', f'vil{version}', config, weights,
                          {'input0': normal((1, *config['input_shape']), 2)}, expected))
    assert recorded['out.out'].shape == shape
    assert all(recorded[f'gradnorm.param.{name}'] > 0 for name in weights)


def test_an_unknown_pooling_is_an_error(tmp_path):
    path = write_folder(tmp_path / 'case', 'vil1', {**V1, 'pooling': 'attention'}, weights_of(V1, 1, 1), {
        'input0': normal((1, 3, 64, 64), 1)}, {'out.out': torch.zeros(1, 10)})
    with pytest.raises(UserError, match="unknown pooling 'attention'. Supported: to_image, bilateral_avg"):
        run_case(path)
