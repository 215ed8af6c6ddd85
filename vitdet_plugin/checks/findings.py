"""What every check returns, and how findings name lists and folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_NAMES_SHOWN = 100


class Finding(NamedTuple):
    """One line of the pre-flight; an ``error`` stops the run, a ``warning`` does not."""

    level: str
    text: str


def listed(names: Sequence[str]) -> str:
    """Names in quotes and brackets, with their number where they are many."""
    shown = ', '.join(repr(name) for name in names[:_NAMES_SHOWN])
    return f'[{shown}{", …" if len(names) > _NAMES_SHOWN else ""}] ({len(names)})' if len(names) > 3 else f'[{shown}]'


def existing_folder(path: str | Path) -> Path:
    """The folder itself, or the lowest one above it that exists."""
    folder = Path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def nearest_folder(path: str) -> str:
    """The lowest folder on the way to a missing path that exists, and what it holds."""
    folder = existing_folder(Path(path).absolute().parent)
    inside = sorted(entry.name for entry in folder.iterdir())[:5]
    return f'{folder} exists and holds {", ".join(inside) or "nothing"}'
