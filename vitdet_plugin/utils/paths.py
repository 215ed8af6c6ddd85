"""Places to write to, looked at before the work whose results go there."""

import os
from pathlib import Path

from vitdet_plugin.errors import UserError


def check_output_path(option: str, path: str | Path, is_folder: bool) -> None:
    """Refuse a place at which no file, or no folder, could be made; nothing is written.

    Args:
        option: Where the path comes from, ``--out``.
        path: It may exist; writing into an existing folder, or over a file, is up to the caller.
        is_folder: Whether a folder is wanted there.

    Raises:
        UserError: Names the option and what stands in the way.
    """
    wanted = Path(path).absolute()
    found = wanted
    while not os.path.lexists(found):
        found = found.parent
    if found == wanted and not is_folder:
        if found.is_dir():
            raise UserError(f'{option} {path}: is a folder; name a file')
        found = found.parent
    if not found.is_dir():
        raise UserError(f'{option} {path}: {found} is a file; choose another place')
    if not os.access(found, os.W_OK | os.X_OK):
        raise UserError(f'{option} {path}: {found} is not writable; choose another place')


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
