"""Suggestions for misspelled names, sizes of files as text, and names that a terminal or a file cannot hold."""

import difflib
import re
from collections.abc import Iterable

_UNPRINTABLE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]')  # surrogates: bytes that are not UTF-8


def suggest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a hint such as `` (did you mean lr, lr_mult?)``, or an empty string when nothing resembles ``word``."""
    folded = {str(name).lower(): str(name) for name in known}
    found = [folded[name] for name in difflib.get_close_matches(word.lower(), sorted(folded), n=3, cutoff=cutoff)]
    return f' (did you mean {", ".join(found)}?)' if found else ''


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 image`` and ``2 classes``."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}{"es" if noun.endswith("s") else "s"}'


def format_bytes(count: float) -> str:
    """Return a number of bytes such as ``88.3 MB`` (10^6)."""
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= factor:
            return f'{count / factor:.1f} {unit}'
    return f'{count:.0f} bytes'


def is_unicode(text: str) -> bool:
    r"""Whether a text can be written as UTF-8; file names in other encodings and ``"\ud800"`` of JSON cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escape(text: str) -> str:
    r"""Return a text with escapes such as ``\x1b`` for control characters and what is not Unicode; lines stay."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode('unicode_escape').decode(), text)
