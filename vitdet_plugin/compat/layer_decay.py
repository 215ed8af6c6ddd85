"""mmdet's layer-wise learning rates for this project's backbones.

mmdet selects layers by the parameter names of mmpretrain's ConvNeXt; the stem of another implementation would silently
get the learning rate of the heads.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from vitdet_plugin.compat.patching import Patch, with_globals
from vitdet_plugin.errors import UserError

_PATCH = Patch('mmdet.engine.optimizers.LearningRateDecayOptimizerConstructor', 'add_params',
               upstream='mmdet 3.0 to 3.5', why='selects layers by the parameter names of one ConvNeXt')
_NAMES = (  # of ConvNeXtBackbone -> of mmpretrain's ConvNeXt
    (re.compile(r'^backbone\.stem\.'), 'backbone.downsample_layers.0.'),
    (re.compile(r'^backbone\.stages\.(\d+)\.downsample\.'), r'backbone.downsample_layers.\1.'),
    (re.compile(r'^backbone\.stages\.(\d+)\.blocks\.'), r'backbone.stages.\1.'),
)


def install() -> None:
    """Give ``ConvNeXtBackbone`` the rates of mmpretrain's ConvNeXt, and raise an error for other backbones."""
    from mmdet.engine.optimizers import layer_decay_optimizer_constructor as upstream

    def wrap(original: Callable) -> Callable:
        translated = with_globals(  # type: ignore[arg-type]
            original, get_layer_id_for_convnext=_with_names(upstream.get_layer_id_for_convnext),
            get_stage_id_for_convnext=_with_names(upstream.get_stage_id_for_convnext))

        @functools.wraps(original)
        def add_params(self: Any, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
            backbone: Any = module.backbone
            if hasattr(backbone, 'get_layer_id'):
                _check(backbone, self.paramwise_cfg)
            translated(self, params, module, **kwargs)

        return add_params

    _PATCH.install(wrap)


def _with_names(layer_of: Callable[[str, int], int]) -> Callable[[str, int], int]:
    def translated(name: str, most: int) -> int:
        for pattern, replacement in _NAMES:
            name = pattern.sub(replacement, name)
        return layer_of(name, most)

    return translated


def _check(backbone: Any, options: dict) -> None:
    name, number = type(backbone).__name__, options.get('num_layers')
    if 'ConvNeXt' not in name:
        raise UserError(f'optim_wrapper.constructor: LearningRateDecayOptimizerConstructor supports ConvNeXt only, not '
                        f"{name}. Use constructor='LayerWiseDecayConstructor' with paramwise_cfg=dict(layer_decay_rate="
                        f'{options.get("decay_rate")}), without decay_type and num_layers.')
    if 'layer_wise' in options.get('decay_type', 'layer_wise') and number is not None and number < backbone.num_layers:
        raise UserError(f'optim_wrapper.paramwise_cfg has num_layers={number}, but this {name} has '
                        f'{backbone.num_layers} layers. Set it to {backbone.num_layers}.')
