"""Parameter groups by kind: weights, scales (norms, gamma) and biases."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from vitdet_plugin.errors import UserError

KINDS = ('weight', 'scale', 'bias')  # weight decay applies to weights only
_TABLES = ('pos_embed', 'rel_pos', 'relative_position', 'cls_token')


def parameter_kind(name: str, parameter: nn.Parameter, owner: nn.Module) -> str:
    """Return the kind of a parameter: 'bias', 'scale' (norms, layer scales, position tables) or 'weight'.

    The kind depends on the name and shape instead of a list of norm classes, so that ``gamma``, global response norms
    and norms of other packages are recognized. The weight of a convolution or linear layer is always a 'weight'.
    """
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'bias' or leaf.endswith('_bias'):
        return 'bias'
    if isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and leaf == 'weight':
        return 'weight'
    is_vector = parameter.squeeze().ndim <= 1
    return 'scale' if is_vector or any(table in name for table in _TABLES) else 'weight'


def kind_groups(model: nn.Module, lr: float, weight_decay: float, backbone_lr_mult: float = 1.0) -> list[dict]:
    """Build one parameter group for each kind and learning rate.

    Args:
        model: Model whose parameters that require a gradient are grouped.
        lr: Base learning rate.
        weight_decay: Weight decay of the weights.
        backbone_lr_mult: Learning rate of ``model.backbone`` relative to ``lr``.

    Returns:
        Groups with ``params``, ``param_names``, ``kind``, ``lr`` and ``weight_decay``, in the order of :data:`KINDS`.
    """
    groups, seen = {}, set()
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f'{prefix}.{leaf}' if prefix else leaf
            kind = parameter_kind(name, parameter, module)
            factor = backbone_lr_mult if name.startswith('backbone.') else 1.0
            group = groups.setdefault((kind, factor), dict(
                params=[], param_names=[], kind=kind, lr=lr * factor,
                weight_decay=weight_decay if kind == 'weight' else 0.0))
            group['params'].append(parameter)
            group['param_names'].append(name)
    return sorted(groups.values(), key=lambda group: (KINDS.index(group['kind']), group['lr']))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParameterKindConstructor(DefaultOptimWrapperConstructor):
    """Optimizer constructor that applies weight decay to weights only.

    Biases are in separate groups with ``kind='bias'``, as required by :class:`BiasWarmupHook`. Key of
    ``paramwise_cfg``:

    * ``backbone_lr_mult``: Learning rate of the backbone relative to the rest, 1.0 by default.
    """

    def __call__(self, model: nn.Module):
        model = getattr(model, 'module', model)
        cfg = dict(self.paramwise_cfg or {})
        factor = cfg.pop('backbone_lr_mult', 1.0)
        if cfg:
            raise UserError(f'paramwise_cfg of ParameterKindConstructor has unknown keys: {", ".join(sorted(cfg))}. '
                            'The supported key is backbone_lr_mult.')
        optimizer_cfg = self.optimizer_cfg.copy()
        if 'lr' not in optimizer_cfg:
            raise UserError('optim_wrapper.optimizer has no lr. Set it; ParameterKindConstructor requires it.')
        lr, weight_decay = optimizer_cfg['lr'], optimizer_cfg.get('weight_decay', 0.0)
        optimizer_cfg['params'] = kind_groups(model, lr, weight_decay, factor)
        wrapper_cfg = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        return OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=OPTIMIZERS.build(optimizer_cfg)))
