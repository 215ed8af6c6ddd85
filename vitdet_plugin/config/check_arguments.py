"""Compare the values of a config with the annotations of this package's constructors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from vitdet_plugin.config.registry import find_type
from vitdet_plugin.utils.arguments import is_number, is_whole

# other packages annotate arguments that take more
_PACKAGES = ('vitdet_plugin', 'ops_dcnv3')
_DATA = (bool, int, float, str, list, tuple, dict, NoneType)
_WORDS = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a string', NoneType: 'None'}


def wrong_arguments(section: Mapping) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and what to set, for the arguments of a section's type that are of another kind.

    Args:
        section: A dict of the config. If its ``type`` is not of this package, nothing is yielded.
    """
    kind = find_type(section) if section.get('type') else None
    for name, (hint, default) in _annotations(kind).items() if kind else ():
        if name in section and section[name] is not default and not _fits(section[name], hint):
            yield name, section[name], _describe(hint)


@cache
def _annotations(kind: Callable) -> dict[str, tuple[Any, Any]]:
    """Return annotation and default of each argument that a constructor or function of this package declares.

    Arguments that a subclass of the user declares are those of the user.
    """
    found = {}
    for base in reversed(kind.__mro__) if inspect.isclass(kind) else [kind]:
        function = vars(base).get('__init__') if inspect.isclass(base) else base
        if not inspect.isfunction(function):  # of object, or written in C
            continue
        parameters = inspect.signature(function).parameters
        if base.__module__.partition('.')[0] in _PACKAGES:
            hints = get_type_hints(function)
            found.update({name: (hints[name], each.default) for name, each in parameters.items()
                          if name in hints and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)})
        else:
            found = {name: each for name, each in found.items() if name not in parameters}
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value may be an argument; objects that a config in Python has built are not looked at."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if not isinstance(value, _DATA) or not (inspect.isclass(kind) or kind is Union):
        return True
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is bool:
        return isinstance(value, int)  # 0 and 1 are usual
    if kind in (int, float):
        return is_whole(value) if kind is int else is_number(value)
    if kind is not str and issubclass(kind, Collection) and not issubclass(kind, Mapping):
        if not isinstance(value, (list, tuple)):
            return False
        if kind is tuple and ... not in parts:
            return len(value) == len(parts) and all(map(_fits, value, parts))
        return all(_fits(each, parts[0]) for each in value if parts)
    return isinstance(value, kind)


def _describe(hint: Any) -> str:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        words = [_describe(part) for part in parts]
        return f'{", ".join(words[:-1])} or {words[-1]}'
    if kind in _WORDS:
        return _WORDS[kind]
    if not inspect.isclass(kind) or not issubclass(kind, Collection):
        return f'an object of {getattr(kind, "__name__", kind)}'
    if issubclass(kind, Mapping):
        return 'a section with keys'
    if not parts:
        return 'a list'
    count = f'{len(parts)} ' if kind is tuple and ... not in parts else ''
    return f'a list of {count}{_describe(parts[0]).removeprefix("a ")}s'
