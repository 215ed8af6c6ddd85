"""Checks of output paths before the work starts, and hints for missing paths."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from vitdet_plugin.errors import UserError

_EXAMINED = 2**16  # bytes
_COCO_KEYS = (b'images', b'annotations', b'categories')


def check_output_path(option: str, path: str | Path, is_folder: bool, suffixes: Collection[str] = ()) -> None:
    """Check that a file or folder can be created at a path, without writing anything.

    Args:
        option: Option that the path comes from, such as ``--out``.
        path: It may exist; whether to overwrite it is up to the caller, unless it is an annotation file.
        is_folder: Whether a folder is to be created, not a file.
        suffixes: Suffixes of such files; an existing file with another one is not replaced. All by default.

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
        if suffixes and not target.name.lower().endswith(tuple(suffixes)):
            raise UserError(f'{option} {path}: exists and is not a {" or ".join(suffixes)} file, so it is not replaced'
                            '; choose another path')
        if target.suffix.lower() == '.json' and _is_annotation_file(target):
            raise UserError(f'{option} {path}: is an annotation file, which is not replaced; choose another path')
        found = found.parent
    if not found.is_dir():
        raise UserError(f'{option} {path}: {found} is not a folder; choose another path')
    if not os.access(found, os.W_OK | os.X_OK):
        raise UserError(f'{option} {path}: {found} is not writable; choose another path')


def _is_annotation_file(path: Path) -> bool:
    """Whether a file looks like COCO annotations, by its first and last bytes."""
    if not path.is_file():
        return False
    with open(path, 'rb') as file:
        text = file.read(_EXAMINED)
        file.seek(max(0, path.stat().st_size - _EXAMINED))
        text += file.read()
    return sum(re.search(rb'"%s"\s*:\s*\[' % key, text) is not None for key in _COCO_KEYS) >= 2


def check_inputs_are_kept(option: str, outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Check that no file to write is one of the files that are read.

    Args:
        option: Option that the output paths come from.
        outputs: Files to write.
        inputs: Files to read; they are not looked at if no output exists.

    Raises:
        UserError: Names the file.
    """
    existing = [path for path in outputs if os.path.lexists(path)]
    read = {os.path.realpath(path) for path in inputs} if existing else set()
    for path in existing:
        if os.path.realpath(path) in read:
            raise UserError(f'{option}: {path} would be replaced, which is an input; choose another path')


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
