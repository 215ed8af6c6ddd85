"""Checks of output paths before the work starts, and hints for missing paths."""

import os
from pathlib import Path

from vitdet_plugin.errors import UserError


def check_output_path(option: str, path: str | Path, is_folder: bool) -> None:
    """Check that a file or folder can be created at a path, without writing anything.

    Args:
        option: Option that the path comes from, such as ``--out``.
        path: It may exist; whether to overwrite it is up to the caller.
        is_folder: Whether a folder is to be created, not a file.

    Raises:
        UserError: Names the option and the reason.
    """
    target = Path(path).absolute()
    found = target
    while not os.path.lexists(found):
        found = found.parent
    if found == target and not is_folder:
        if found.is_dir():
            raise UserError(f'{option} {path}: is a folder; give the path of a file')
        found = found.parent
    if not found.is_dir():
        raise UserError(f'{option} {path}: {found} is not a folder; choose another path')
    if not os.access(found, os.W_OK | os.X_OK):
        raise UserError(f'{option} {path}: {found} is not writable; choose another path')


def existing_folder(path: str | Path) -> Path:
    """Return the folder itself or its closest parent that exists."""
    folder = Path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def nearest_folder(path: str) -> str:
    """Describe the closest existing parent of a missing path and what it contains."""
    folder = existing_folder(Path(path).absolute().parent)
    inside = sorted(entry.name for entry in folder.iterdir())[:5]
    return f'{folder} exists and holds {", ".join(inside) or "nothing"}'
