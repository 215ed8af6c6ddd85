"""Options of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitdet_plugin.serving.faults import RequestFault
from vitdet_plugin.utils.text import suggest

FORMATS = ('json', 'coco', 'image')
FORMATS_OF_CLASSES = ('json', 'image')
_NAMES = ('threshold', 'format', 'top')


@dataclass(frozen=True)
class Options:
    """Options of a request.

    Attributes:
        threshold: Lowest score of objects.
        format: ``json``, ``coco`` or ``image``.
        top: Most classes that a classifier returns.
    """

    threshold: float
    format: str = 'json'
    top: int = 5


def parse_options(words: Mapping[str, str], threshold: float, is_classifier: bool) -> Options:
    """Return the options of a request.

    Args:
        words: Names and values.
        threshold: Threshold without this option.
        is_classifier: Whether the model is a classifier.

    Raises:
        RequestFault: An unknown option or value.
    """
    for name in words:
        if name not in _NAMES:
            raise RequestFault(400, f'option {name!r} is unknown{suggest(name, _NAMES)}; options are '
                               f'{", ".join(_NAMES)}')
    allowed = FORMATS_OF_CLASSES if is_classifier else FORMATS
    kind = words.get('format', 'json')
    if kind not in allowed:
        reason = 'is for detectors, and this model is a classifier' if kind in FORMATS else 'is unknown'
        raise RequestFault(400, f'format {kind!r} {reason}; choose from {", ".join(allowed)}')
    return Options(_threshold(words['threshold']) if 'threshold' in words else threshold, kind,
                   _top(words.get('top', '5')))


def _threshold(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise RequestFault(400, f'threshold {word!r}: give a number from 0 to 1')
    return value


def _top(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and 0 < int(word[:9])):
        raise RequestFault(400, f'top {word!r}: give a number of classes, such as 5')
    return int(word[:9])
