"""Patch attributes of other packages: each once, listed by `vitdet_plugin.compat.report`; a missing one is an error."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import Any, NamedTuple

from vitdet_plugin.errors import UserError

_SENTINEL = '_vitdet_plugin_patches'  # attribute of a replacement: targets of the patches that it implements
_PATCHES: list['Patch'] = []


class PatchRecord(NamedTuple):
    """One entry of `vitdet_plugin.compat.report`."""

    target: str  # dotted name of the replaced attribute
    why: str
    upstream: str  # versions for which the patch is written
    installed: bool  # whether it has been applied in this process


class Patch:
    """A patch of one attribute, declared at module level so that the report lists it before it is installed.

    Args:
        owner: Dotted name of the module or class that has the attribute. For patches of instances, their class.
        name: Name of the attribute.
        why: Reason, as a phrase.
        upstream: Versions for which the patch is written.
    """

    def __init__(self, owner: str, name: str, *, why: str, upstream: str) -> None:
        self.owner, self.name, self.why, self.upstream = owner, name, why, upstream
        self.installed = False
        _PATCHES.append(self)

    @property
    def target(self) -> str:
        return f'{self.owner}.{self.name}'

    def install(self, wrap: Callable[[Any], Any], owner: Any = None) -> None:
        """Replace the attribute by ``wrap(attribute)``; does nothing where this patch has been installed before.

        Args:
            wrap: Returns the replacement, an object that takes attributes.
            owner: An instance to patch; by default the module or class that ``self.owner`` names.

        Raises:
            UserError: There is no such attribute; names package and version.
        """
        owner = self._resolve_owner() if owner is None else owner
        if not hasattr(owner, self.name):
            raise self.moved()
        original = getattr(owner, self.name)
        if not self.is_on(original):
            setattr(owner, self.name, self.mark(wrap(original)))
        self.installed = True

    def is_on(self, value: Any) -> bool:
        """Whether ``value`` is a replacement by this patch, or wraps one with ``functools.wraps``."""
        return self.target in getattr(value, _SENTINEL, ())

    def mark(self, replacement: Any) -> Any:
        """Set the sentinel of this patch on ``replacement`` and return it."""
        setattr(replacement, _SENTINEL, frozenset({self.target, *getattr(replacement, _SENTINEL, ())}))
        return replacement

    def moved(self) -> UserError:
        """Return the error for an upstream version that lacks the replaced attribute."""
        package = self.owner.partition('.')[0]
        return UserError(f'{package} {_version(package)} has no {self.target}, which vitdet_plugin replaces '
                         f'({self.why}): install a version for which the patch is written ({self.upstream})')

    def record(self) -> PatchRecord:
        return PatchRecord(self.target, self.why, self.upstream, self.installed)

    def _resolve_owner(self) -> Any:
        path, *rest = self.owner.split('.')
        owner = import_module(path)
        for name in rest:
            path = f'{path}.{name}'
            if hasattr(owner, name):
                owner = getattr(owner, name)
                continue
            try:
                owner = import_module(path)  # not an attribute of a package whose first import failed
            except ModuleNotFoundError as error:
                if error.name == path:
                    raise self.moved() from None
                raise  # the module needs a package that is not installed
        return owner


def records() -> list[PatchRecord]:
    """Records of every patch declared so far, by target."""
    return sorted(patch.record() for patch in _PATCHES)


def with_globals(function: FunctionType, **replaced: Any) -> FunctionType:
    """Return a copy of ``function`` that finds other objects under some of its global names.

    Nothing is patched: ``function``, its module and other callers stay as they are.

    Args:
        function: A plain function.
        **replaced: Global name -> object that the copy finds.

    Raises:
        UserError: The function does not use one of the names, because upstream has changed it.
    """
    for name in replaced:
        if name not in function.__code__.co_names:
            package = function.__module__.partition('.')[0]
            raise UserError(f'{package} {_version(package)}: {function.__module__}.{function.__qualname__} no longer '
                            f'uses {name}, which vitdet_plugin replaces there: install a version that '
                            'vitdet-plugin[openmmlab] requires')
    copy = FunctionType(function.__code__, {**function.__globals__, **replaced}, function.__name__,
                        function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _version(package: str) -> str:
    return getattr(sys.modules.get(package), '__version__', 'of unknown version')
