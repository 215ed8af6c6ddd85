"""Look up names in the registries of mmengine, mmdet and mmpretrain."""

import inspect
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from vitdet_plugin.utils.output import suppress_output


def find_registered(name: str) -> Callable | None:
    """Return the class or function registered under ``name`` in any registry and scope, or None."""
    bare = name.split('.')[-1]
    for registry in all_registries():
        if bare in registry.module_dict:
            return registry.module_dict[bare]
    return None


def import_scope(scope: str) -> None:
    """Fill the registries of mmdet or mmpretrain now instead of at their first use."""
    with suppress_output():  # the forks print that an optional data service is missing
        for registry in all_registries():
            if registry.scope == scope:
                registry.import_from_location()


def is_classifier(cfg: Config) -> bool:
    """Return whether ``cfg.model`` is a classifier of mmpretrain."""
    found = find_registered(str((cfg.get('model') or {}).get('type')))
    return inspect.isclass(found) and any(base.__name__ == 'BaseClassifier' for base in found.__mro__)


def is_sharding(cfg: Config) -> bool:
    """Return whether ``cfg.strategy`` shards the model over the ranks (FSDP)."""
    name = str((cfg.get('strategy') or {}).get('type'))
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
