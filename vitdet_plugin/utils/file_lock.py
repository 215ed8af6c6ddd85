"""Let one process of a machine at a time do something, such as download a file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vitdet_plugin.utils.ranks import is_first_rank

try:
    import fcntl
except ImportError:  # not a POSIX system: several processes may do the same
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path, busy: str = '') -> Iterator[None]:
    """Let one process of a machine into the block at a time; ``busy`` is printed by a process that has to wait."""
    file = _acquire(path, busy)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before its release, so that a waiting process can tell that its file was removed
        file.close()


def _acquire(path: Path, busy: str) -> IO[str]:
    while True:
        file = open(path, 'w')
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if busy and is_first_rank():
                        print(f'{busy}; waiting for it', file=sys.stderr, flush=True)
                    fcntl.flock(file, fcntl.LOCK_EX)
            if fcntl is None or path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # file systems without locks
                return file
            if not isinstance(error, FileNotFoundError):
                file.close()
                raise
        file.close()
