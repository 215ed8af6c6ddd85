"""Look up names in the registries of mmengine, mmdet and mmpretrain."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vitdet_plugin.utils.output import suppress_output

if TYPE_CHECKING:
    from mmengine.config import Config


def find_registered(name: str) -> Callable | None:
    """Return the class or function registered under ``name`` in any registry and scope, or None."""
    bare = name.split('.')[-1]
    for registry in all_registries():
        if bare in registry.module_dict:
            return registry.module_dict[bare]
    return None


def find_type(cfg: Mapping) -> Callable | None:
    """Return the class or function that ``cfg['type']`` is or names, or None."""
    kind = cfg.get('type')
    return kind if callable(kind) else find_registered(str(kind))


def type_name(cfg: Any) -> str:
    """Return the bare name of ``cfg['type']``, a name with or without a scope or a class; empty if there is none."""
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    return str(getattr(kind, '__name__', kind or '')).rpartition('.')[2]


def as_list(value: Any) -> list[Any]:
    """Return the elements of a list or tuple, or one value, such as a single evaluator of a config, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def is_coco_metric(cfg: Any) -> bool:
    """Return whether the config of an evaluator is that of mmdet's ``CocoMetric`` or of one derived from it."""
    return any(word in type_name(cfg) for word in ('Coco', 'LVIS'))


def model_config(cfg: Mapping) -> dict:
    """Return a copy of ``cfg.model`` to build; configs of mmpretrain have its data preprocessor next to it."""
    model = copy.deepcopy(cfg['model'])  # constructors write into their arguments
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg['data_preprocessor'])
    return model


def import_scope(scope: str) -> None:
    """Fill the registries of mmdet or mmpretrain now instead of at their first use."""
    with suppress_output():  # the forks print that an optional data service is missing
        for registry in all_registries():
            if registry.scope == scope:
                registry.import_from_location()


def is_classifier(cfg: Config) -> bool:
    """Return whether ``cfg.model`` is a classifier of mmpretrain."""
    found = find_type(cfg.get('model') or {})
    return inspect.isclass(found) and any(base.__name__ == 'BaseClassifier' for base in found.__mro__)


def is_sharding(cfg: Config) -> bool:
    """Return whether ``cfg.strategy`` shards the model over the ranks (FSDP)."""
    name = type_name(cfg.get('strategy'))
    return 'FSDP' in name or 'FullyShard' in name


def all_registries() -> list[Any]:
    """Return every registry: mmengine's roots and their children (mmdet's, mmpretrain's, …)."""
    from mmengine import registry as mmengine_registry
    roots = [value for value in vars(mmengine_registry).values() if isinstance(value, mmengine_registry.Registry)]
    found, queue = [], roots
    while queue:
        registry = queue.pop()
        if all(registry is not other for other in found):
            found.append(registry)
            queue.extend(registry.children.values())
    return found
