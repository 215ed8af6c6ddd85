"""Names of output files for input files, so that no output overwrites another one."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def distinct_names(paths: Sequence[str | Path], root: str | Path | None = None) -> list[str]:
    """Return a name without suffix for each path; no two are equal, also where upper and lower case are the same.

    A name is the shortest of these that no other path has: ``im`` of ``x/im.png``; with the folders that differ,
    ``x_im``; with the suffix, ``x_im.png``; with a number.

    Args:
        paths: Different paths, in an order that does not change between processes.
        root: Folder whose subfolders are kept: ``x/im``, or with the suffix ``x/im.png``.
    """
    parents = [os.path.abspath(Path(path).parent) for path in paths]
    common = os.path.commonpath([*parents, *([os.path.abspath(root)] if root is not None else [])]) if paths else ''
    inside = [Path(os.path.relpath(parent, common), Path(path).name) for parent, path in zip(parents, paths)]
    forms = [(path.stem, '_'.join(path.with_suffix('').parts), '_'.join(path.parts)) for path in inside]
    if root is not None:
        forms = [(path.with_suffix('').as_posix(), path.as_posix(), path.as_posix()) for path in inside]
    names = [short for short, _, _ in forms]
    for level in (1, 2):
        count = Counter(name.casefold() for name in names)
        names = [form[level] if count[name.casefold()] > 1 else name for form, name in zip(forms, names)]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number = 1
        while names[index].casefold() in taken:
            number += 1
            names[index] = f'{name}_{number}'
        taken.add(names[index].casefold())
    return names
