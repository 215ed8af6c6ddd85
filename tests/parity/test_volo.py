"""Cases of VOLO: reference outputs for generated weights and inputs, and arguments of other variants."""

from pathlib import Path

import pytest
import torch

from tests.parity.cases import write_folder
from tests.parity.goldens import run_case
from tests.parity.test_internimage import draw, normal
from tests.parity.volo import Classifier, classifier_config
from vitdet_plugin.errors import UserError

SHARED = Path(__file__).parents[3] / 'shared/goldens/volo_small'
CONFIG = dict(layers=[2, 1, 1, 1], img_size=64, num_classes=10, embed_dims=[32, 64, 64, 64], num_heads=[2, 4, 4, 4],
              mlp_ratios=[3, 3, 3, 3], downsamples=[True, False, False, False], stem_hidden_dim=16,
              outlook_attention=[True, False, False, False], post_layers=['ca', 'ca'], input=[2, 3, 64, 64])
# Results of the official classifier for the case volo_small: logits of both images, L2 norms of gradients.
LOGITS = [[-0.871963, -0.516783, 0.357692, 0.411718, 0.191850, 0.069494, -1.225365, 0.160319, -0.668329, -0.485430],
          [-0.871990, -0.516778, 0.357686, 0.411714, 0.191861, 0.069477, -1.225384, 0.160288, -0.668300, -0.485418]]
NORMS = {
    'network.0.0.attn.attn.weight': 0.032316, 'network.0.1.attn.v.weight': 5.094771, 'pos_embed': 1.787990,
    'post_network.0.attn.kv.weight': 21.073105, 'cls_token': 5.492512, 'aux_head.weight': 25.632799,
    'patch_embed.conv.0.weight': 0.002194, 'network.2.0.attn.qkv.weight': 9.365039, 'head.bias': 5.886175}


def official(state: dict) -> dict:
    """Rename the weights of a classifier to the official names."""
    return {name.replace('head.fc.', 'backbone.head.').removeprefix('head.').removeprefix('backbone.'): value
            for name, value in state.items()}


def test_reference_outputs_for_generated_weights(tmp_path, monkeypatch):
    found = {}

    def record(verdict, key, ours, theirs):
        found[key] = ours.detach()
        verdict.add(key, 0.0, 1.0)

    monkeypatch.setattr('tests.parity.goldens.Verdict.compare', record)
    weights = draw(official(Classifier(CONFIG).state_dict()), 51)
    expected = {'out.out': torch.zeros(2, 10), 'cotangent.out': normal((2, 10), 53),
                **{f'gradnorm.param.{name}': torch.tensor([norm]) for name, norm in NORMS.items()}}
    run_case(write_folder(tmp_path / 'case', 'volo', CONFIG, weights, {'input0': normal((2, 3, 64, 64), 52)}, expected))
    torch.testing.assert_close(found['out.out'], torch.tensor(LOGITS), atol=2e-5, rtol=0)
    for name, norm in NORMS.items():
        assert found[f'gradnorm.param.{name}'].item() == pytest.approx(norm, rel=1e-3, abs=2e-6), name


@pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} does not exist')
def test_reference_outputs_of_the_official_implementation():
    verdict = run_case(SHARED)
    assert verdict.passed, (verdict.worst, verdict.errors[verdict.worst])
    assert len(verdict.errors) > 150


@pytest.mark.parametrize(('arguments', 'supported'), [
    (dict(qkv_bias=True, qk_scale=0.3, img_size=[64, 96], input=[1, 3, 64, 96]), True),
    (dict(return_mean=True), True), (dict(return_dense=False, mix_token=False), True), (dict(post_layers=None), True),
    (dict(out_kernel=5, out_padding=2), True), (dict(out_stride=1), True), (dict(in_chans=4), True),
    (dict(outlook_attention=[True, True, False, False], drop_path_rate=0.1), True),
    (dict(downsamples=[True, True, False, False], pooling_scale=2), True), (dict(window_size=7), False)])
def test_arguments_of_variants(arguments, supported):
    config = {**CONFIG, **arguments}
    if not supported:
        with pytest.raises(UserError):
            classifier_config(config)
        return
    size = config['img_size'] if isinstance(config['img_size'], list) else [config['img_size']] * 2
    model = Classifier(config).eval()
    with torch.no_grad():
        assert model(torch.randn(1, config.get('in_chans', 3), *size)).shape == (1, 10)
