"""Cases of VOLO: the official classifier in eval mode."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from tests.parity.goldens import Case, Verdict, compare_model, load_official_weights, register_kind
from vitdet_plugin.errors import UserError

# Official arguments without effect in eval mode, derived from others, or describing the case.
_IGNORED = {'drop_rate', 'attn_drop_rate', 'drop_path_rate', 'mix_token', 'pooling_scale', 'input'}


class Classifier(nn.Module):
    """Backbone and head with the parameter names of a classifier, built from the official constructor arguments."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        backbone, head = classifier_config(config)
        self.backbone, self.head = MODELS.build(backbone), MODELS.build(head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def classifier_config(config: dict) -> tuple[dict, dict]:
    """Convert the official constructor arguments to configs of the backbone and the head.

    Raises:
        UserError: If an argument is unknown.
    """
    config = {key: value for key, value in config.items() if key not in _IGNORED}
    stages = len(config['layers'])

    def take(name: str, default=None):
        return config.pop(name, default)

    def by_stage(name: str, *defaults):
        given = next((value for value in map(take, (name, *defaults[:-1])) if value is not None), defaults[-1])
        return tuple(given) if isinstance(given, (list, tuple)) else (given,) * stages

    arch = dict(layers=tuple(take('layers')), embed_dims=by_stage('embed_dims', 384),
                num_heads=by_stage('num_heads', 12), mlp_ratios=by_stage('mlp_ratios', 'mlp_ratio', 3.0),
                stem_hidden_dim=take('stem_hidden_dim', 64))
    outlook = dict(kernel_size=take('out_kernel', 3), stride=take('out_stride', 2), padding=take('out_padding', 1))
    attention = dict(qkv_bias=take('qkv_bias', False), qk_scale=take('qk_scale'))
    first = (True,) + (False,) * (stages - 1)
    backbone = dict(type='VOLO', arch=arch, img_size=take('img_size', 224), in_channels=take('in_chans', 3),
                    patch_size=take('patch_size', 8), downsamples=by_stage('downsamples', first), outlook=outlook,
                    outlook_attention=by_stage('outlook_attention', first), **attention)
    head = dict(type='VOLOClsHead', num_classes=take('num_classes', 1000), in_channels=arch['embed_dims'][-1],
                num_heads=arch['num_heads'][-1], mlp_ratio=arch['mlp_ratios'][-1],
                depth=len(take('post_layers', ('ca', 'ca')) or ()), dense=take('return_dense', True),
                pooling='avg' if take('return_mean', False) else 'token', **attention)
    if config:
        raise UserError(f'unknown arguments of the reference: {", ".join(config)}')
    return backbone, head


@register_kind('volo')
def run_volo(case: Case) -> Verdict:
    """Compare the logits of the classifier, output ``out``."""
    image = case.inputs['input0'].clone().requires_grad_()
    model = Classifier(case.config).to(image.dtype).eval()
    official_names = load_official_weights(model, case)
    outputs = {'out': model(image)}
    return compare_model(model, case, outputs, {'input0': image}, official_names)
