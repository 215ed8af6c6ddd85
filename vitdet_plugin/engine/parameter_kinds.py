"""Optimiser groups by the kind of a parameter: weights, scales (norms, gamma), biases."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from vitdet_plugin.errors import UserError

KINDS = ('weight', 'scale', 'bias')  # of these, only weights decay
_TABLES = ('pos_embed', 'rel_pos', 'relative_position', 'cls_token')


def kind_of(name: str, parameter: nn.Parameter, owner: nn.Module) -> str:
    """'bias', 'scale' (norms of any kind, layer scales, position tables), or 'weight'.

    By name and shape rather than by a list of norm classes: ``gamma``, global response norms and norms of other
    packages are found wherever they stand. Only a convolution's or linear layer's weight is one whatever its shape.
    """
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'bias' or leaf.endswith('_bias'):
        return 'bias'
    if isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and leaf == 'weight':
        return 'weight'
    is_vector = parameter.squeeze().ndim <= 1
    return 'scale' if is_vector or any(table in name for table in _TABLES) else 'weight'


def kind_groups(model: nn.Module, lr: float, weight_decay: float, backbone_lr_mult: float = 1.0) -> list[dict]:
    """Groups (params, param_names, kind, lr, weight_decay); every parameter that wants a gradient stands in one."""
    groups, seen = {}, set()
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f'{prefix}.{leaf}' if prefix else leaf
            kind = kind_of(name, parameter, module)
            factor = backbone_lr_mult if name.startswith('backbone.') else 1.0
            group = groups.setdefault((kind, factor), dict(
                params=[], param_names=[], kind=kind, lr=lr * factor,
                weight_decay=weight_decay if kind == 'weight' else 0.0))
            group['params'].append(parameter)
            group['param_names'].append(name)
    return sorted(groups.values(), key=lambda group: (KINDS.index(group['kind']), group['lr']))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParameterKindConstructor(DefaultOptimWrapperConstructor):
    """Weight decay for weights only; biases in groups of their own, so that :class:`BiasWarmupHook` finds them.

    ``paramwise_cfg=dict(backbone_lr_mult=1.0)``: learning rate of the backbone relative to the rest.
    """

    def __call__(self, model: nn.Module):
        model = getattr(model, 'module', model)
        cfg = dict(self.paramwise_cfg or {})
        factor = cfg.pop('backbone_lr_mult', 1.0)
        if cfg:
            raise UserError(f'paramwise_cfg of ParameterKindConstructor has unknown keys: {", ".join(sorted(cfg))}; it '
                            'takes backbone_lr_mult')
        optimizer_cfg = self.optimizer_cfg.copy()
        if 'lr' not in optimizer_cfg:
            raise UserError('optim_wrapper.optimizer has no lr; ParameterKindConstructor needs it')
        lr, weight_decay = optimizer_cfg['lr'], optimizer_cfg.get('weight_decay', 0.0)
        optimizer_cfg['params'] = kind_groups(model, lr, weight_decay, factor)
        wrapper_cfg = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        return OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=OPTIMIZERS.build(optimizer_cfg)))
