"""Suggestions for misspelled names, and sizes of files as text."""

import difflib
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a hint such as `` (did you mean lr, lr_mult?)``, or an empty string when nothing resembles ``word``."""
    folded = {str(name).lower(): str(name) for name in known}
    found = [folded[name] for name in difflib.get_close_matches(word.lower(), sorted(folded), n=3, cutoff=cutoff)]
    return f' (did you mean {", ".join(found)}?)' if found else ''


def format_bytes(count: float) -> str:
    """Return a number of bytes such as ``88.3 MB`` (10^6)."""
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= factor:
            return f'{count / factor:.1f} {unit}'
    return f'{count:.0f} bytes'
