"""Cases of ConvNeXt classifiers (V1 and V2): logits and gradients."""

from __future__ import annotations

from dataclasses import replace

from mmengine.registry import MODELS
from torch import Tensor, nn

from tests.parity.goldens import Case, Verdict, compare_model, load_official_weights, register_kind


class _Classifier(nn.Module):
    """Backbone and head built from the constructor arguments of the reference."""

    def __init__(self, config: dict, use_grn: bool) -> None:
        super().__init__()
        depths = config.get('depths', (3, 3, 9, 3))
        dims = config.get('dims', (96, 192, 384, 768))
        self.backbone = MODELS.build(dict(
            type='ConvNeXtBackbone', arch=dict(depths=depths, dims=dims, use_grn=use_grn),
            in_channels=config.get('in_chans', 3), out_indices=(3,), out_norms=False,
            layer_scale_init_value=0 if use_grn else config.get('layer_scale_init_value', 1e-6)))
        self.head = MODELS.build(dict(
            type='LayerNormClsHead', num_classes=config.get('num_classes', 1000), in_channels=dims[-1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


@register_kind('convnext')
@register_kind('convnext_v2')
@register_kind('convnextv2')
def run_convnext(case: Case) -> Verdict:
    """Compare facebookresearch's ConvNeXt, or ConvNeXt-V2 if there are GRN weights; output ``out``: logits."""
    image = case.inputs['input0'].clone().requires_grad_()
    use_grn = any('.grn.' in name for name in case.weights)
    model = _Classifier(case.config, use_grn).to(image.dtype).eval()
    official_names = load_official_weights(model, case)
    outputs = {'out': model(image)}
    # official GRN weights have the shape (1, 1, 1, C)
    flat = {key: value.flatten() if '.grn.' in key else value for key, value in case.expected.items()}
    return compare_model(model, replace(case, expected=flat), outputs, {'input0': image}, official_names)
