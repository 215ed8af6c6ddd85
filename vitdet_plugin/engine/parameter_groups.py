"""What optimizer constructors of the project share: each parameter once, groups by key, checked options."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from vitdet_plugin.errors import UserError


def trainable_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Yield the name, the parameter and its module of all that require a gradient; shared ones once."""
    seen = set()
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield f'{prefix}.{leaf}' if prefix else leaf, parameter, module


def add_to_group(groups: dict[Any, dict], key: Hashable, name: str, parameter: nn.Parameter, **fields: Any) -> None:
    """Add a parameter to the group of ``key``, which gets ``fields`` if it is new."""
    group = groups.setdefault(key, dict(params=[], param_names=[], **fields))
    group['params'].append(parameter)
    group['param_names'].append(name)


class GroupConstructor(DefaultOptimWrapperConstructor):
    """Base of optimizer constructors: builds the optimizer of :meth:`groups` and its wrapper.

    Subclasses have ``options``, the keys of ``paramwise_cfg`` that they take, and ``groups``.
    """

    options: tuple[str, ...]

    def groups(self, model: nn.Module, lr: float, weight_decay: float, **options: Any) -> list[dict]:
        """Return the parameter groups of a model for an optimizer of PyTorch."""
        raise NotImplementedError

    def __call__(self, model: nn.Module):
        options, name = dict(self.paramwise_cfg or {}), type(self).__name__
        unknown = sorted(options.keys() - set(self.options))
        if unknown:
            raise UserError(f'paramwise_cfg of {name} has unknown keys: {", ".join(unknown)}. Supported keys: '
                            f'{", ".join(self.options)}.')
        optimizer = dict(self.optimizer_cfg)
        if 'lr' not in optimizer:
            raise UserError(f'optim_wrapper.optimizer has no lr. Set it; {name} computes the learning rates from it.')
        optimizer['params'] = self.groups(getattr(model, 'module', model), optimizer['lr'],
                                          optimizer.get('weight_decay', 0.0), **options)
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **self.optim_wrapper_cfg},
                                    default_args=dict(optimizer=OPTIMIZERS.build(optimizer)))
