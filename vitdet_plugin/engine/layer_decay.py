"""Optimiser groups with layer-wise learning rates and an explicit weight-decay rule."""

from __future__ import annotations

from collections.abc import Callable

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from vitdet_plugin.errors import UserError

_TORCH_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)


def _d2_exempt(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """detectron2's ViTDet: only PyTorch's norm modules and ``pos_embed``; LayerNorm2d, biases, rel_pos do decay."""
    return isinstance(module, _TORCH_NORMS) or 'pos_embed' in name


def _plain_exempt(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Everything of one dimension (norms, biases, layer scales) and all position tables."""
    return parameter.ndim <= 1 or name.endswith('.bias') or 'pos_embed' in name or 'rel_pos' in name


def _never_exempt(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Everything decays."""
    return False


# Which parameters are exempt from weight decay: rule(name in the model, parameter, the module that owns it).
NO_DECAY_RULES: dict[str, Callable[[str, nn.Parameter, nn.Module], bool]] = {
    'd2': _d2_exempt, 'plain': _plain_exempt, 'none': _never_exempt,
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerWiseDecayConstructor(DefaultOptimWrapperConstructor):
    """Learning rate of layer i = ``lr * rate ** (L + 1 - i)``; layers as the backbone itself counts them.

    In a config: ``optim_wrapper=dict(constructor='LayerWiseDecayConstructor', paramwise_cfg=dict(
    layer_decay_rate=0.7, no_decay='d2'), optimizer=...)``. Keys of ``paramwise_cfg``:

    * ``layer_decay_rate``: 1.0 switches layer-wise rates off. The stem has id 0 and rate ** (L + 1), block i has id
      i + 1; everything outside the backbone keeps the full rate (BEiT arXiv 2106.08254; ViTDet, appendix).
    * ``no_decay``: 'd2', 'plain' or 'none', see :data:`NO_DECAY_RULES`.

    Every parameter that wants a gradient stands in exactly one group.
    """

    def __call__(self, model: nn.Module):
        model = getattr(model, 'module', model)
        cfg = dict(self.paramwise_cfg or {})
        rate, rule = cfg.pop('layer_decay_rate', 1.0), cfg.pop('no_decay', 'plain')
        if cfg:
            raise UserError(f'paramwise_cfg of LayerWiseDecayConstructor has unknown keys: {", ".join(sorted(cfg))}; '
                            'it takes layer_decay_rate and no_decay')
        if rule not in NO_DECAY_RULES:
            raise UserError(f'no_decay={rule!r} is unknown; choose one of {", ".join(NO_DECAY_RULES)}')
        optimizer_cfg = self.optimizer_cfg.copy()
        if 'lr' not in optimizer_cfg:
            raise UserError('optim_wrapper.optimizer has no lr; layer-wise decay scales it')
        optimizer_cfg['params'] = parameter_groups(
            model, lr=optimizer_cfg['lr'], weight_decay=optimizer_cfg.get('weight_decay', 0.0), rate=rate, rule=rule)
        return _build_wrapper(self.optim_wrapper_cfg, optimizer_cfg)


def parameter_groups(model: nn.Module, *, lr: float, weight_decay: float, rate: float, rule: str) -> list[dict]:
    """Groups (params, lr, weight_decay, lr_scale, param_names), one for each layer and decay, first layer first.

    Raises:
        UserError: when ``rate`` is not 1 and ``model.backbone`` does not say where its parameters stand.
    """
    backbone = getattr(model, 'backbone', None)
    if rate != 1.0 and not hasattr(backbone, 'get_layer_id'):
        raise UserError(f'layer_decay_rate={rate}: the backbone {type(backbone).__name__} has no get_layer_id; use one '
                        'of this project or set layer_decay_rate=1.0')
    exempt, seen, groups = NO_DECAY_RULES[rule], set(), {}
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f'{prefix}.{leaf}' if prefix else leaf
            steps_from_top = 0
            if rate != 1.0 and name.startswith('backbone.'):
                steps_from_top = backbone.num_layers + 1 - backbone.get_layer_id(name.removeprefix('backbone.'))
            key = (steps_from_top, exempt(name, parameter, module))
            scale = rate ** steps_from_top
            group = groups.setdefault(key, dict(params=[], param_names=[], lr=lr * scale, lr_scale=scale,
                                                weight_decay=0.0 if key[1] else weight_decay))
            group['params'].append(parameter)
            group['param_names'].append(name)
    ordered = [groups[key] for key in sorted(groups, reverse=True)]
    print_log(f'{sum(len(g["params"]) for g in ordered)} parameters in {len(ordered)} groups, learning rates '
              f'{ordered[0]["lr"]:.3g} to {lr:.3g}, no weight decay by the rule {rule!r}', 'current')
    return ordered


def _build_wrapper(wrapper_cfg: dict, optimizer_cfg: dict):
    from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
    wrapper_cfg = dict(wrapper_cfg)
    wrapper_cfg.setdefault('type', 'OptimWrapper')
    return OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=OPTIMIZERS.build(optimizer_cfg)))
