"""Parameter groups by kind: weights, scales (norms, gamma) and biases."""

from __future__ import annotations

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from vitdet_plugin.engine.parameter_groups import GroupConstructor, add_to_group, trainable_parameters

KINDS = ('weight', 'scale', 'bias')  # weight decay applies to weights only
_TABLES = ('pos_embed', 'rel_pos', 'relative_position', 'cls_token')


def parameter_kind(name: str, parameter: nn.Parameter, owner: nn.Module) -> str:
    """Return the kind of a parameter: 'bias', 'scale' (norms, layer scales, position tables, class tokens), 'weight'.

    The kind depends on the name and shape instead of a list of norm classes, so that ``gamma``, global response norms
    and norms of other packages are recognized. The weight of a convolution or linear layer is always a 'weight'.
    """
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'bias' or leaf.endswith('_bias'):
        return 'bias'
    if isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and leaf == 'weight':
        return 'weight'
    is_vector = sum(side != 1 for side in parameter.shape) <= 1  # by the shape, which sharded parameters keep
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
    groups = {}
    for name, parameter, module in trainable_parameters(model):
        kind = parameter_kind(name, parameter, module)
        factor = backbone_lr_mult if name.startswith('backbone.') else 1.0
        add_to_group(groups, (kind, factor), name, parameter, kind=kind, lr=lr * factor,
                     weight_decay=weight_decay if kind == 'weight' else 0.0)
    return sorted(groups.values(), key=lambda group: (KINDS.index(group['kind']), group['lr']))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParameterKindConstructor(GroupConstructor):
    """Optimizer constructor that applies weight decay to weights only.

    Biases are in separate groups with ``kind='bias'``, as required by :class:`BiasWarmupHook`. Key of
    ``paramwise_cfg``:

    * ``backbone_lr_mult``: Learning rate of the backbone relative to the rest, 1.0 by default.
    """

    options = ('backbone_lr_mult',)

    def groups(self, model: nn.Module, lr: float, weight_decay: float, **options) -> list[dict]:
        return kind_groups(model, lr, weight_decay, **options)
