"""Names of output files for input files, so that no output overwrites another one."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath


class OutputNames:
    """Names of output files, of which no two are equal, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, output: str | PurePath) -> str:
        """Return ``output``, or if an earlier one was the same, ``output`` with a number."""
        for count in itertools.count(1):
            name = f'{output}_{count}' if count > 1 else str(output)
            if name.casefold() not in self._taken:
                break
        self._taken.add(name.casefold())
        return name


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
    return [*map(OutputNames().new, names)]
