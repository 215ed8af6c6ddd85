"""Cases of InternImage: logits of a classifier or feature maps of the backbone."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from tests.parity.goldens import Case, Verdict, compare_model, load_official_weights, register_kind

# constructor arguments with the same name in the reference and in this project
_SAME = ('offset_scale', 'post_norm', 'res_post_norm', 'center_feature_scale', 'remove_center', 'dw_kernel_size',
         'mlp_ratio', 'drop_path_rate', 'drop_path_type', 'norm_layer', 'act_layer')


def backbone_config(config: dict, out_indices: tuple[int, ...]) -> dict:
    """Convert the constructor arguments of the reference to a config of ``InternImage``."""
    scale = config.get('layer_scale')
    return dict(
        type='InternImage', arch={key: config[key] for key in ('channels', 'depths', 'groups')},
        out_indices=out_indices, layer_scale=False if scale is None else scale,
        level2_post_norm_block_ids=config.get('level2_post_norm_block_ids') if config.get('level2_post_norm') else (),
        **{key: config[key] for key in _SAME if config.get(key) is not None})


def head_config(config: dict) -> dict:
    """Return the config of the head: that of T to XL, or the CLIP projector of H and G."""
    width = config['channels'] * 8
    if config.get('use_clip_projector'):
        return dict(type='InternImageClipHead', num_classes=config['num_classes'], in_channels=(width // 2, width))
    return dict(type='InternImageClsHead', num_classes=config['num_classes'], in_channels=width,
                cls_scale=config.get('cls_scale', 1.5))


class Classifier(nn.Module):
    """Backbone and head with the parameter names of a classifier, (B, 3, H, W) -> (B, num_classes)."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        out_indices = (2, 3) if config.get('use_clip_projector') else (3,)
        self.backbone = MODELS.build(backbone_config(config, out_indices))
        self.head = MODELS.build(head_config(config))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


@register_kind('internimage')
def run_internimage(case: Case) -> Verdict:
    """Compare the logits ``out`` of the classifier, or several feature maps of the backbone in ascending stride."""
    image = case.inputs['input0'].clone().requires_grad_()
    names = sorted(key.removeprefix('out.') for key in case.expected if key.startswith('out.'))
    if len(names) == 1:
        model = Classifier(case.config)
    else:
        model = MODELS.build(backbone_config(case.config, tuple(case.config.get('out_indices', (0, 1, 2, 3)))))
    model = model.to(image.dtype).eval()
    official_names = load_official_weights(model, case)
    if len(names) == 1:
        outputs = {names[0]: model(image)}
    else:
        official_names = {theirs: ours.removeprefix('backbone.') for theirs, ours in official_names.items()}
        outputs = dict(zip(names, model(image), strict=True))
    return compare_model(model, case, outputs, {'input0': image}, official_names)
