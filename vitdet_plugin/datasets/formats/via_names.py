"""Which attribute of the regions of VIA states the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_USUAL = ('class', 'classname', 'label', 'category', 'categoryname', 'name', 'object', 'objectname', 'objecttype',
          'type', 'species', 'kind', 'cls', 'classes', 'labels')
_YES_OR_NO = {'', '0', '1', 'true', 'false', 'yes', 'no', 'y', 'n', 'on', 'off'}


@dataclass
class ClassNames:
    """How the class of a region is found.

    Attributes:
        attribute: Name of the attribute; None if each region has the class as the key of its only attribute, or if
            there are no attributes.
        fixed: The class of all regions if no attribute states it.
        only: The class of regions without a value of the attribute; None if they have none.
        options: Text of each value of the attribute.
        classes: Names in the order of the project; None if it states none.
        notes: How the class was chosen.
    """

    attribute: str | None = None
    fixed: str | None = None
    only: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)

    def name_of(self, attributes: dict) -> str:
        """Return the class of a region.

        Raises:
            ValueError: It has none, or several.
        """
        if self.fixed is not None:
            return self.fixed
        if self.attribute is None:
            return str(next(iter(attributes), ''))
        values = _values(attributes.get(self.attribute))
        if not values and self.only is not None:
            return self.only
        if len(values) != 1:
            state = f'several values ({", ".join(values)})' if values else 'no value'
            raise ValueError(f'{state} of the attribute {self.attribute!r}, which states the class; set one')
        return self.options.get(values[0], values[0])


def choose_names(regions: Sequence[dict], options: dict[str, dict], what: str = 'region') -> ClassNames:
    """Choose the attribute that states the class.

    That is an attribute which all regions have, otherwise the most; of these one with a usual name such as ``class``,
    otherwise that with the fewest values. Numbers of the regions and answers yes or no are the last choice.

    Args:
        regions: Attributes of each region.
        options: Options of each attribute, text by value, as in ``_via_attributes``.
        what: ``region``, or ``image`` for attributes of files.
    """
    counts = {key: Counter(tuple(_values(each[key])) for each in regions if key in each and _values(each[key]))
              for key in dict.fromkeys(key for each in regions for key in each)}

    def rank(key: str) -> tuple:
        values = counts[key]
        bare = ''.join(letter for letter in key.lower() if letter.isalpha())
        is_number = len(values) > max(3, values.total() / 2)
        is_answer = all(value.lower() in _YES_OR_NO for each in values for value in each)
        return (is_number or is_answer, len(regions) - values.total(), bare not in _USUAL, len(values),
                _USUAL.index(bare) if bare in _USUAL else 0)

    ranked = sorted((key for key in counts if counts[key]), key=rank)
    if what == 'image':  # VIA proposes some attributes of files, such as caption and public_domain
        ranked = [key for key in ranked if rank(key)[:2] == (False, 0) and key not in ('caption', 'image_url')]
        if not ranked:
            return ClassNames()
    keys = Counter(key for each in regions if len(each) == 1 for key in each)
    are_keys = keys.total() == len(regions) > 0 and not any(
        value.lower() not in _YES_OR_NO for values in counts.values() for each in values for value in each)
    if are_keys and not (len(keys) == 1 and next(iter(keys)).lower() in _USUAL):
        note = 'the attributes have no values; ' + (
            f'all objects are of the class {next(iter(keys))!r}, the name of their attribute' if len(keys) == 1 else
            f'the names of the attributes are the classes: {", ".join(sorted(keys))}')
        return ClassNames(notes=[note])
    if not ranked:
        return ClassNames(fixed='object', notes=['no attribute of the regions states a class; all objects are of the '
                                                 "class 'object'"])
    best = ranked[0]
    texts, classes = _texts(options.get(best, {}))
    others = f'; not used: {", ".join(ranked[1:6])}' if len(ranked) > 1 else ''
    note = (f'the attribute {best!r} of the {what}s, with {len(counts[best])} values in {counts[best].total()} of '
            f'{len(regions)} {what}s, states the class{others}')
    only = None
    values = [*counts[best]]
    if what == 'region' and len(values) == len(values[0]) == 1 and counts[best].total() < len(regions) and \
            len(classes) <= 1:
        only = texts.get(values[0][0], values[0][0])
        note += f'; the other {len(regions) - counts[best].total()} are of the same class, since there is only one'
    return ClassNames(best, None, only, texts, classes or None, [note])


def _values(value: Any) -> list[str]:
    """Return the values of an attribute: the text, or the checked options of check boxes."""
    if isinstance(value, dict):
        return [str(key) for key, checked in value.items() if checked not in (False, None, '', 0, '0', 'false')]
    if isinstance(value, list):
        return [str(each) for each in value]
    return [str(value).strip()] if value is not None and str(value).strip() else []


def _texts(options: dict) -> tuple[dict[str, str], list[str]]:
    """Return the text of each value whose text differs from it, and all names in order.

    The values of options are often the names themselves, without or with a description; a number is not a name.
    """
    texts = {str(value): str(text).strip() for value, text in options.items()
             if str(value).isdigit() and isinstance(text, str) and text.strip()}
    return texts, [texts.get(str(value), str(value)) for value in options]
