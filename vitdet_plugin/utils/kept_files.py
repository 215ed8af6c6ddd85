"""Keep the content of files that a run reads several times, from the first read until its weights are loaded."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class _Kept:
    content: Any
    is_checked: bool


_kept: ContextVar[dict[tuple, _Kept] | None] = ContextVar('kept_files', default=None)


@contextlib.contextmanager
def keep_files() -> Iterator[None]:
    """Within this block :func:`read_once` reads each file once; an outer block takes precedence."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def drop_kept_files() -> None:
    """Free the kept content and keep nothing until the current block ends: call it once the weights are loaded."""
    _kept.set(None)


def is_keeping() -> bool:
    """Whether a :func:`keep_files` block is active."""
    return _kept.get() is not None


def read_once(path: str | os.PathLike, read: Callable[[], Any], is_checked: bool = False) -> Any:
    """Return ``read()``, or within :func:`keep_files` its earlier result for the same unchanged file.

    Args:
        path: Existing file.
        read: Reads the file.
        is_checked: ``read`` also verifies checksums; content that was kept without verification is read again.
    """
    kept = _kept.get()
    if kept is None:
        return read()
    status = os.stat(path)
    key = (os.path.realpath(path), status.st_size, status.st_mtime_ns)
    if key not in kept or is_checked and not kept[key].is_checked:
        kept[key] = _Kept(read(), is_checked)
    return kept[key].content
