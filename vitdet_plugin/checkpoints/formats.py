"""What a checkpoint format is: how to recognise it and how its weights are called here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Drop:
    """Right-hand side of a rule for weights that are left out on purpose."""

    reason: str


@dataclass
class Conversion:
    """Weights under this project's names, their names in the file, what was left out and why, and what no rule knew."""

    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    may_miss: Callable[[Set[str], Set[str]], Set[str]] | None = None  # see Format


@dataclass(frozen=True)
class Format:
    """One official spelling.

    Attributes:
        name: shown to the user.
        matches: tells from the set of weight names whether a checkpoint is of this format.
        rules: (regular expression for a whole name, replacement or Drop); the first match counts. New names are
            those of a whole detector (``backbone.``, ``neck.``, ...).
        may_miss: which of the model's missing weights may keep their values, given the missing and the found names
            (ours); None: all. The others are an error.
        adapt: for values that differ from ours, not only names: takes the name here and the tensor, returns the tensor.
    """

    name: str
    matches: Callable[[Set[str]], bool]
    rules: Iterable[tuple[str, str | Drop]]
    may_miss: Callable[[Set[str], Set[str]], Set[str]] | None = None
    adapt: Callable[[str, Tensor], Tensor] | None = None

    def convert(self, state: dict[str, Tensor]) -> Conversion:
        """Rename every weight, keeping the tensors as they are unless the format has to adapt them."""
        compiled = [(re.compile(pattern), target) for pattern, target in self.rules]
        result = Conversion(may_miss=self.may_miss)
        for name, value in state.items():
            match, target = next(((match, target) for pattern, target in compiled
                                  if (match := pattern.fullmatch(name))), (None, None))
            if match is None:
                result.unknown.append(name)
            elif isinstance(target, Drop):
                result.dropped[name] = target.reason
            else:
                # a group that took no part (the stage of a head without cascade) stands for nothing
                new = match.expand(target)
                result.state[new] = self.adapt(new, value) if self.adapt else value
                result.origins[new] = name
        return result
