"""Checkpoint formats: the keys that identify one, and the rules that rename its weights to this project's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property

from torch import Tensor

from vitdet_plugin.backbones.base import registered_backbones
from vitdet_plugin.errors import UserError


@dataclass(frozen=True)
class Drop:
    """Right-hand side of a rule for weights that are left out on purpose."""

    reason: str


@dataclass
class Conversion:
    """Renamed weights.

    Attributes:
        state: The weights under this project's names.
        origins: For each of these names, the name in the file.
        dropped: Names in the file that were left out, and the reason.
        unknown: Names in the file that no rule covers.
        may_miss, exchangeable: See :class:`Format`.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    may_miss: Callable[[Set[str], Set[str]], Set[str]] | None = None
    exchangeable: bool = False


@dataclass(frozen=True)
class Format:
    """One published naming scheme of weights.

    Attributes:
        name: Shown to the user.
        keys: Patterns of weight names, all of which a file of this format has. ``*`` stands for any characters, ``|``
            separates alternatives. Empty: the format is used only if it is selected by name.
        without: Patterns of weight names, none of which such a file has.
        rules: (regular expression for a whole name, replacement or Drop); the first match counts. New names are
            those of a whole detector (``backbone.``, ``neck.``, ...).
        may_miss: Given the missing and the found names (this project's), which of the missing weights may keep their
            initial values; None: all. The others are an error.
        adapt: Function of the new name and the tensor that returns the converted tensor; None if only names differ.
        exchangeable: Whether the model may have another backbone than the file, see
            :mod:`vitdet_plugin.checkpoints.exchange`; the file has no backbone of this project.
    """

    name: str
    keys: tuple[str, ...]
    rules: Iterable[tuple[str, str | Drop]]
    without: tuple[str, ...] = ()
    may_miss: Callable[[Set[str], Set[str]], Set[str]] | None = None
    adapt: Callable[[str, Tensor], Tensor] | None = None
    exchangeable: bool = False

    def matched_keys(self, names: Iterable[str]) -> list[str]:
        """Return the first of ``names`` for each of ``keys``; empty if the names are not of this format."""
        names = list(names)
        if any(map(self._compiled_without.match, names) if self.without else ()):
            return []
        found = []
        for pattern in self._compiled_keys:
            name = next((name for name in names if pattern.match(name)), None)
            if name is None:
                return []
            found.append(name)
        return [] if self.exchangeable and is_own_backbone(names, 'backbone.') else found

    def is_narrower_than(self, other: Format) -> bool:
        """Whether every file of this format also matches ``other``, but not vice versa."""
        return set(other.keys) <= set(self.keys) and set(other.without) <= set(self.without) and \
            (set(other.keys), set(other.without)) != (set(self.keys), set(self.without))

    def convert(self, state: dict[str, Tensor]) -> Conversion:
        """Rename every weight; tensors are unchanged unless the format has ``adapt``."""
        compiled = [(re.compile(pattern), target) for pattern, target in self.rules]
        result = Conversion(may_miss=self.may_miss, exchangeable=self.exchangeable)
        for name, value in state.items():
            found = next(((match, target) for pattern, target in compiled if (match := pattern.fullmatch(name))), None)
            if found is None:
                result.unknown.append(name)
                continue
            match, target = found
            if isinstance(target, Drop):
                result.dropped[name] = target.reason
            else:
                # an unmatched group (the stage index of a head without cascade) expands to an empty string
                new = match.expand(target)
                result.state[new] = self.adapt(new, value) if self.adapt else value
                result.origins[new] = name
        return result

    @cached_property
    def _compiled_keys(self) -> list[re.Pattern]:
        return [_compile(key) for key in self.keys]

    @cached_property
    def _compiled_without(self) -> re.Pattern:
        return _compile('|'.join(self.without))


def find_format(formats: Iterable[Format], names: Sequence[str], source: str) -> tuple[Format, list[str]] | None:
    """Find the format of a file by its weight names; the order of ``formats`` has no influence.

    Args:
        names: Weight names in the order of the file.
        source: File name for messages.

    Returns:
        The format and the names by which it was recognized, or None.

    Raises:
        UserError: Several formats match, and none of them is narrower than all others.
    """
    matching = [(each, found) for each in formats if (found := each.matched_keys(names))]
    best = [(each, found) for each, found in matching
            if all(each is other or each.is_narrower_than(other) for other, _ in matching)]
    if matching and not best:
        candidates = '; '.join(sorted(f'{each.name!r} by {show_names(found)}' for each, found in matching))
        raise UserError(f'{source}: the names of the weights fit several formats: {candidates}. Choose '
                        "by form=NAME (Python, init_cfg=dict(type='OfficialCheckpoint', …)) or --as NAME (converter)")
    return best[0] if best else None


def is_own_backbone(names: Iterable[str], prefix: str = '') -> bool:
    """Return whether weights have the names of a backbone of this project, after ``prefix``."""
    present = set(names)
    return any(cls.key_weights and present.issuperset(f'{prefix}{key}' for key in cls.key_weights)
               for cls in registered_backbones())


def show_names(names: Sequence[str], most: int = 4) -> str:
    """Quote the first names and count the rest: ``'a', 'b' and 3 more``."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(f"'{name}'" for name in names[:most]) + more


def _compile(pattern: str) -> re.Pattern:
    return re.compile('|'.join(translate(each) for each in pattern.split('|')))
