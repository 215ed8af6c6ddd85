"""Parameter groups with layer-wise learning rates and an explicit weight decay rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mmengine.logging import print_log
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from vitdet_plugin.engine.parameter_groups import GroupConstructor, add_to_group, trainable_parameters
from vitdet_plugin.engine.parameter_kinds import parameter_kind
from vitdet_plugin.errors import UserError

_TORCH_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)


def _d2_exempt(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Exempt PyTorch's norm layers and ``pos_embed``, as detectron2's ViTDet; LayerNorm2d, biases and rel_pos decay."""
    return isinstance(module, _TORCH_NORMS) or 'pos_embed' in name


def _plain_exempt(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Exempt all but weights, as :class:`ParameterKindConstructor`."""
    return parameter_kind(name, parameter, module) != 'weight'


def _never_exempt(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Exempt nothing."""
    return False


# Rules for exemption from weight decay: rule(name in the model, parameter, owning module).
NO_DECAY_RULES: dict[str, Callable[[str, nn.Parameter, nn.Module], bool]] = {
    'd2': _d2_exempt, 'plain': _plain_exempt, 'none': _never_exempt,
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerWiseDecayConstructor(GroupConstructor):
    """Optimizer constructor with layer-wise learning rate decay.

    The learning rate of layer i is ``lr * rate ** (L + 1 - i)`` with L = ``backbone.num_layers`` and i =
    ``backbone.get_layer_id(name)``: 0 for the stem, i + 1 for block i. Parameters outside the backbone use ``lr``
    (BEiT, arXiv:2106.08254; ViTDet, arXiv:2203.16527, appendix). Every parameter that requires a gradient is in exactly
    one group.

    In a config: ``optim_wrapper=dict(constructor='LayerWiseDecayConstructor', paramwise_cfg=dict(
    layer_decay_rate=0.7, no_decay='d2'), optimizer=...)``. Keys of ``paramwise_cfg``:

    * ``layer_decay_rate``: The decay rate; 1.0 (default) disables layer-wise learning rates.
    * ``backbone_lr_mult``: Further factor for all learning rates of the backbone; 1.0 by default.
    * ``no_decay``: 'd2', 'plain' (default) or 'none', see :data:`NO_DECAY_RULES`.
    * ``custom_keys``: As mmengine's, further factors of parameters by parts of their names:
      ``dict(sampling_offsets=dict(lr_mult=0.1, decay_mult=0.0))``. The longest part that a name contains counts.
    """

    options = ('layer_decay_rate', 'no_decay', 'backbone_lr_mult', 'custom_keys')

    def groups(self, model: nn.Module, lr: float, weight_decay: float, layer_decay_rate: float = 1.0,
               no_decay: str = 'plain', **options) -> list[dict]:
        if no_decay not in NO_DECAY_RULES:
            raise UserError(f'paramwise_cfg has an unknown rule no_decay={no_decay!r}. Use one of '
                            f'{", ".join(NO_DECAY_RULES)}.')
        return parameter_groups(model, lr=lr, weight_decay=weight_decay, rate=layer_decay_rate, rule=no_decay,
                                **options)


def parameter_groups(model: nn.Module, *, lr: float, weight_decay: float, rate: float, rule: str,
                     backbone_lr_mult: float = 1.0,
                     custom_keys: Mapping[str, Mapping[str, float]] | None = None) -> list[dict]:
    """Build one parameter group for each combination of layer and weight decay.

    Args:
        model: A model whose ``backbone`` has ``num_layers`` and ``get_layer_id``.
        lr: Base learning rate.
        weight_decay: Weight decay of parameters that are not exempt.
        rate: Layer-wise decay rate.
        rule: A key of :data:`NO_DECAY_RULES`.
        backbone_lr_mult: Further factor for the backbone.
        custom_keys: Part of a parameter's name -> ``lr_mult`` and ``decay_mult``, each 1.0 by default.

    Returns:
        Groups with ``params``, ``param_names``, ``lr``, ``lr_scale`` and ``weight_decay``, lowest rate first.

    Raises:
        UserError: If ``rate`` is not 1 and the backbone has no ``get_layer_id``, or ``custom_keys`` is not valid.
    """
    backbone = getattr(model, 'backbone', None)
    if rate != 1.0 and not hasattr(backbone, 'get_layer_id'):
        raise UserError(f'layer_decay_rate={rate}, but the backbone {type(backbone).__name__} has no get_layer_id. Use '
                        'a backbone of vitdet_plugin, give it get_layer_id(name) and num_layers, or set '
                        'layer_decay_rate=1.0.')
    exempt, groups = NO_DECAY_RULES[rule], {}
    custom = _check_custom_keys(custom_keys or {})
    for name, parameter, module in trainable_parameters(model):
        scale = 1.0
        if name.startswith('backbone.'):
            scale = backbone_lr_mult
            if rate != 1.0:
                layer = backbone.get_layer_id(name.removeprefix('backbone.'))
                scale *= rate ** (backbone.num_layers + 1 - layer)
        factors = next((factors for part, factors in custom if part in name), {})
        scale *= factors.get('lr_mult', 1.0)
        decay = 0.0 if exempt(name, parameter, module) else weight_decay * factors.get('decay_mult', 1.0)
        add_to_group(groups, (scale, decay), name, parameter, lr=lr * scale, lr_scale=scale, weight_decay=decay)
    ordered = [groups[key] for key in sorted(groups)]
    print_log(f'{sum(len(g["params"]) for g in ordered)} parameters in {len(ordered)} groups, learning rates '
              f'{ordered[0]["lr"]:.3g} to {lr:.3g}, no_decay rule {rule!r}', 'current')
    return ordered


def _check_custom_keys(custom_keys: Mapping[str, Mapping[str, float]]) -> list[tuple[str, Mapping[str, float]]]:
    """Return the entries of ``custom_keys``, the longest names first."""
    for part, factors in custom_keys.items():
        if not isinstance(factors, Mapping) or not set(factors) <= {'lr_mult', 'decay_mult'}:
            raise UserError(f'paramwise_cfg.custom_keys has {part}={factors!r}. Give dict(lr_mult=NUMBER, '
                            'decay_mult=NUMBER), or one of them.')
    return sorted(custom_keys.items(), key=lambda item: -len(item[0]))
