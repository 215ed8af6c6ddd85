"""Recognize the format of a checkpoint by the names of its weights, and rename them to this project's."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Set
from dataclasses import dataclass

from torch import Tensor

from vitdet_plugin import checkpoints
from vitdet_plugin.checkpoints.formats import Conversion, Format, find_format, is_own_backbone, show_names
from vitdet_plugin.checkpoints.hugging_face import to_official_names
from vitdet_plugin.checkpoints.prefixes import strip_wrappers, without_prefixes
from vitdet_plugin.errors import UserError

HUGGING_FACE = ", in Hugging Face's names"
OURS = ('this project', 'a backbone of this project')  # names of the formats of this project's files
_BY_NAME = 'the format was given'
_PREFIX = 'backbone.'


@dataclass
class Recognized:
    """A format with the weights that it renames.

    Attributes:
        name: Name of the format.
        reason: Weight names by which it was recognized.
        conversion: The renamed weights.
        prefix: Prefix that was removed from the names first.
    """

    name: str
    reason: str
    conversion: Conversion
    prefix: str = ''

    def rank(self, names_here: Set[str]) -> tuple[int, int]:
        """Return how many weights the model has, and minus the number of weights without a rule or a use."""
        names = self.conversion.state.keys()
        if not names_here:
            return len(names), -len(self.conversion.unknown)
        unused = sum(name.startswith(_PREFIX) for name in names - names_here)
        return len(names & names_here), -len(self.conversion.unknown) - unused


def known_formats() -> list[Format]:
    """Return the formats of every family in this package."""
    formats: list[Format] = []
    for module in pkgutil.iter_modules(checkpoints.__path__, f'{checkpoints.__name__}.'):
        formats += getattr(importlib.import_module(module.name), 'FORMATS', [])
    return formats


def recognize(state: dict[str, Tensor], names_here: Set[str], source: str, form: str | None = None) -> Recognized:
    """Recognize the format of ``state`` and rename its weights to those of a whole detector.

    Names of wrappers are removed; so are prefixes that all weights share, and those without which more weights fit.

    Args:
        names_here: State-dict names of the model that receives the weights, which identify files of this project.
        source: File name for messages.
        form: Name of the format, instead of recognizing it.

    Raises:
        UserError: The format is unknown, or several formats or prefixes fit equally.
    """
    formats = known_formats()
    state = strip_wrappers(state, source)
    if form is not None:
        chosen = next((each for each in formats if each.name == form), None)
        if chosen is None:
            known = ', '.join(repr(each.name) for each in formats)
            raise UserError(f'format {form!r} is unknown; choose one of {known}')
        return Recognized(form, _BY_NAME, chosen.convert(state))
    if (renamed := to_official_names(state)) is not None:
        converted = recognize(renamed, names_here, source)
        converted.name += HUGGING_FACE
        return converted
    found: list[Recognized] = []
    for prefix, names in without_prefixes(state):
        try:
            each = _recognize(names, names_here, formats, source)
        except UserError:
            if not prefix:
                raise
            continue
        if each is None:
            continue
        each.prefix = prefix
        if prefix:
            left = [name for name in state if not name.startswith(prefix)]
            each.conversion.dropped.update(dict.fromkeys(left, f"not under '{prefix}'"))
            each.conversion.origins = {new: f'{prefix}{old}' for new, old in each.conversion.origins.items()}
        found.append(each)
        if not prefix and not each.conversion.unknown and each.conversion.state.keys() <= (names_here or
                                                                                           each.conversion.state.keys()):
            break
    if not found:
        raise _unknown(state, formats, source)
    return _best(found, names_here, source)


def _recognize(state: dict[str, Tensor], names_here: Set[str], formats: list[Format],
               source: str) -> Recognized | None:
    """Recognize names as they are; files of the model itself come before published formats."""
    for name, prefix in zip(OURS, ('', _PREFIX)):
        if state and all(f'{prefix}{each}' in names_here for each in state):
            return _own(name, prefix, state, names_here)
    for prefix in ('', _PREFIX):  # the backbone's part of a published detector or classifier
        names = {f'{prefix}{each}': value for each, value in state.items()}
        if match := find_format(formats, list(names), source):
            form, keys = match
            conversion = form.convert(names)
            if prefix:
                conversion.unknown = [each.removeprefix(prefix) for each in conversion.unknown]
                conversion.dropped = {each.removeprefix(prefix): why for each, why in conversion.dropped.items()}
                conversion.origins = {new: old.removeprefix(prefix) for new, old in conversion.origins.items()}
            return Recognized(form.name, show_names(keys), conversion)
        if any(each.startswith(_PREFIX) for each in state) or is_own_backbone(state):
            break
    for name, prefix in zip(OURS, ('', _PREFIX)):
        if any(f'{prefix}{each}' in names_here for each in state):
            return _own(name, prefix, state, names_here)
    if not names_here and any(each.startswith(_PREFIX) for each in state):
        return _own(OURS[0], '', state, names_here)
    if is_own_backbone(state):
        return _own(OURS[1], _PREFIX, state, names_here)
    return None


def _own(name: str, prefix: str, state: dict[str, Tensor], names_here: Set[str]) -> Recognized:
    common = [f'{prefix}{each}' for each in state if f'{prefix}{each}' in names_here]
    return Recognized(name, show_names(common or [f'{prefix}{each}' for each in state], 1),
                      Conversion({f'{prefix}{each}': value for each, value in state.items()},
                                 {f'{prefix}{each}': each for each in state}))


def _best(found: list[Recognized], names_here: Set[str], source: str) -> Recognized:
    """Return the reading with the most weights of the model; of equal ones that with the shortest prefix.

    Raises:
        UserError: Several prefixes, none of which contains the others, give equally many.
    """
    most = max(each.rank(names_here) for each in found)
    best = [each for each in found if each.rank(names_here) == most]
    other = next((each for each in best if not each.prefix.startswith(best[0].prefix)), None)
    if other is not None:
        raise UserError(f"{source}: the weights under '{best[0].prefix}' and under '{other.prefix}' fit equally; "
                        f"choose by prefix='{best[0].prefix}' in init_cfg or by vitdet convert --prefix "
                        f'{best[0].prefix}')
    return best[0]


def _unknown(state: dict[str, Tensor], formats: list[Format], source: str) -> UserError:
    looked_for = '; '.join(f'{each.name}: {show_names(each.keys)}' for each in formats if each.keys)
    names = sorted(state)
    more = f' and {len(names) - 4} more' if len(names) > 4 else ''
    return UserError(f'{source}: the format of the weights is unknown (first names: {", ".join(names[:4])}{more}). '
                     f'Looked for names of the model and of known formats: {looked_for}. Check that it is a file of '
                     'this model')
