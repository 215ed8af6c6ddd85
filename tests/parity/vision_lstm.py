"""Cases of Vision-LSTM versions 1 and 2: logits of classifiers and feature maps."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from tests.parity.goldens import Case, Verdict, compare_model, load_official_weights, register_kind
from vitdet_plugin.errors import UserError

_POOLED = {'bilateral_avg': 1, 'bilateral_flatten': 2}  # number of tokens in the pooled features


def backbone_config(config: dict, weights: dict[str, Tensor], version: int) -> dict:
    """Convert the constructor arguments of the reference to a config of ``VisionLSTM``.

    The depth of version 2 counts pairs of blocks. The kernel size is taken from the weights, since the reference
    ignores ``conv_kernel_size``.
    """
    _, *img_size = config['input_shape']
    pooling = config.get('pooling', 'bilateral_avg' if version == 1 else 'bilateral_flatten')
    conv = next(value for name, value in weights.items()
                if name.endswith(('conv.weight', 'conv1d.weight')) and 'blocks.0.' in name)
    given = {name: config[name] for name in ('alternation', 'proj_bias', 'norm_bias', 'conv_kind') if name in config}
    return dict(
        type='VisionLSTM', version=version, img_size=img_size, in_channels=config['input_shape'][0],
        arch=dict(dim=config['dim'], depth=config['depth'] * version),
        patch_size=config['patch_size'], stride=config.get('stride'), conv_kernel_size=conv.shape[-1],
        pooling=pooling if pooling in _POOLED else None, **given,
        legacy_norm=version == 1 and 'legacy_norm.weight' in weights)


class Model(nn.Module):
    """Backbone and, for a classifier, head; the output has the form required by the case."""

    def __init__(self, case: Case, version: int) -> None:
        super().__init__()
        config = case.config
        self.pooling = config.get('pooling')
        self.backbone = MODELS.build(backbone_config(config, case.weights, version))
        self.head = None
        if config.get('output_shape') is not None and config.get('mode', 'classifier') == 'classifier':
            self.head = MODELS.build(dict(
                type='VisionLSTMClsHead', num_classes=config['output_shape'][0],
                in_channels=self.backbone.out_channels[-1],
                legacy_norm=version == 2 and 'legacy_norm.weight' in case.weights))

    def forward(self, x: Tensor) -> Tensor:
        feats = self.backbone(x)
        if self.head is not None:
            return self.head(feats)
        if self.pooling == 'to_image':
            return feats[-1]
        tokens = feats[-1].flatten(2).transpose(1, 2)
        return tokens[:, 0] if self.pooling in _POOLED else tokens


def _run(case: Case, version: int) -> Verdict:
    if case.config.get('pooling') not in (None, 'to_image', *_POOLED):
        raise UserError(f'{case.path}: unknown pooling {case.config["pooling"]!r}. Supported: to_image, '
                        f'{", ".join(_POOLED)}.')
    image = case.inputs['input0'].clone().requires_grad_()
    model = Model(case, version).to(image.dtype).eval()
    official_names = load_official_weights(model, case)
    out = model(image)
    return compare_model(model, case, {'out': out}, {'input0': image}, official_names)


@register_kind('vil1')
def run_version_1(case: Case) -> Verdict:
    """Compare version 1: causal convolution over the sequence, mean of the first and last token."""
    return _run(case, 1)


@register_kind('vil2')
def run_version_2(case: Case) -> Verdict:
    """Compare version 2: convolution over the map, first and last token concatenated."""
    return _run(case, 2)
