"""Optimiser groups by the kind of a parameter: weights, scales (norms, gamma), biases."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from vitdet_plugin.errors import UserError

KINDS = ('weight', 'scale', 'bias')  # of these, only weights decay
_TABLES = ('pos_embed', 'rel_pos', 'relative_position', 'cls_token')


def kind_of(name: str, parameter: nn.Parameter) -> str:
    """'bias', 'scale' (every other parameter of one dimension, and position tables), or 'weight'.

    By name and shape and not by the module's class: norms of any kind, layer scales (``gamma``) and global response
    norms are found wherever they stand, also as parameters of a block itself.
    """
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'bias' or leaf.endswith('_bias'):
        return 'bias'
    if parameter.squeeze().ndim <= 1 and parameter.ndim != 2 or any(table in name for table in _TABLES):
        return 'scale'
    return 'weight'


def kind_groups(model: nn.Module, lr: float, weight_decay: float, backbone_lr_mult: float = 1.0) -> list[dict]:
    """Groups (params, param_names, kind, lr, weight_decay); every parameter that wants a gradient stands in one."""
    groups, seen = {}, set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        kind = kind_of(name, parameter)
        factor = backbone_lr_mult if name.startswith('backbone.') else 1.0
        group = groups.setdefault((kind, factor), dict(
            params=[], param_names=[], kind=kind, lr=lr * factor, weight_decay=weight_decay if kind == 'weight' else 0))
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
        wrapper_cfg = dict(type='OptimWrapper', **self.optim_wrapper_cfg) \
            if 'type' not in self.optim_wrapper_cfg else dict(self.optim_wrapper_cfg)
        return OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=OPTIMIZERS.build(optimizer_cfg)))
