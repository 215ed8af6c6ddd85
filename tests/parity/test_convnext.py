"""Cases of ConvNeXt: reference outputs of facebookresearch's implementation for generated weights and inputs."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.test_convnext import OFFICIAL, renamed
from tests.parity.convnext import _Classifier
from tests.parity.goldens import run_case
from tests.parity.test_vitdet import draw_weights, normal
from vitdet_plugin.checkpoints.official import load_official

CONFIG = dict(depths=[1, 1, 2, 1], dims=[16, 32, 48, 64], num_classes=10)
# Results of the official implementation for the case convnext_small.
LOGITS = [0.508268, 0.625448, 0.921038, -0.359158, 0.642026, -0.53211, 0.750856, -0.975905, 0.546225, 0.477766]
GRADIENT_NORMS = {
    'downsample_layers.0.0.weight': 0.112138,
    'head.weight': 39.100834,
    'norm.weight': 3.261521,
    'stages.0.0.dwconv.weight': 0.099066,
    'stages.2.1.gamma': 0.535989,
    'stages.3.0.pwconv2.weight': 35.095173}
INPUT_GRADIENT_NORM = 0.007895


def official_weights(model, seed):
    official = renamed(model.state_dict(), OFFICIAL)
    weights = draw_weights({name: value.shape for name, value in official.items()}, seed)
    return {name: value + 1 if name.endswith('.gamma') and '.grn.' not in name else value
            for name, value in weights.items()}


def test_reference_outputs_for_generated_weights(tmp_path):
    model = _Classifier(CONFIG, use_grn=False).eval()
    save_file(official_weights(model, 61), tmp_path / 'convnext.safetensors')
    load_official(model, tmp_path / 'convnext.safetensors', allow_missing=False)
    image = normal((2, 3, 64, 64), 62).requires_grad_()
    out = model(image)
    torch.testing.assert_close(out[0].detach(), torch.tensor(LOGITS), atol=1e-4, rtol=1e-4)
    out.backward(normal(out.shape, 63))
    gradients = renamed({name: p.grad for name, p in model.named_parameters()}, OFFICIAL)
    for name, norm in GRADIENT_NORMS.items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3), name
    assert image.grad.norm().item() == pytest.approx(INPUT_GRADIENT_NORM, rel=1e-3)


@pytest.mark.parametrize('corrupt', [False, True])
def test_a_case_of_version_2_with_official_grn_shapes(tmp_path, corrupt):
    """A case of our own model with official key names and GRN gradients of shape (1, 1, 1, C)."""
    model = _Classifier(CONFIG, use_grn=True).eval()
    weights = official_weights(model, 3)
    (tmp_path / 'case.json').write_text(json.dumps(dict(kind='convnextv2', config=CONFIG)))
    save_file(weights, tmp_path / 'weights.safetensors')
    load_official(model, tmp_path / 'weights.safetensors', allow_missing=False)
    image = normal((1, 3, 64, 64), 4).requires_grad_()
    save_file(dict(input0=image.detach()), tmp_path / 'inputs.safetensors')
    out = model(image)
    cotangent = normal(out.shape, 5)
    out.backward(cotangent)
    gradients = renamed({name: p.grad for name, p in model.named_parameters()}, OFFICIAL)
    expected = {'out.out': out.detach() + 0.1 * corrupt, 'cotangent.out': cotangent, 'grad.input0': image.grad}
    expected |= {f'grad.param.{name}': value.contiguous() for name, value in gradients.items()}
    save_file({name: value.contiguous() for name, value in expected.items()}, tmp_path / 'expected.safetensors')
    verdict = run_case(tmp_path)
    assert verdict.passed != corrupt
    assert verdict.worst == 'out.out' if corrupt else any('grn' in name for name in verdict.errors)
