"""One training at a time in a work directory: two would replace each other's checkpoints."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import IO

from mmengine.dist import broadcast_object_list, is_main_process

from vitdet_plugin.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = '.training.lock'


@contextlib.contextmanager
def locked_work_dir(work_dir: str) -> Iterator[None]:
    """Hold the lock of a work directory, which is created if necessary.

    The first rank holds it. The kernel releases it when the process ends, however it ends; data workers, which may live
    a little longer, do not inherit it. File systems and systems without locks are not protected.

    Raises:
        UserError: Another training holds it; on every rank.
    """
    file, shared = None, [None]
    if is_main_process() and fcntl is not None:
        file, shared = _acquire(work_dir)
    broadcast_object_list(shared)
    if shared[0] is not None:
        raise UserError(f'{work_dir}: another training ({shared[0]}) writes to this work directory; wait for it, end '
                        'it, or choose another --work-dir')
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError), file:
                os.unlink(file.name)


def _acquire(work_dir: str) -> tuple[IO | None, list]:
    """Return the locked file, if the file system has locks, and in a list the process that holds the lock or None."""
    try:
        os.makedirs(work_dir, exist_ok=True)
        file = open(os.path.abspath(os.path.join(work_dir, _NAME)), 'a+', encoding='utf-8')  # noqa: SIM115
    except OSError:  # reported by what writes the first file
        return None, [None]
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f'process {os.getpid()} on {os.uname().nodename}')
        file.flush()
        return file, [None]
    except OSError as error:
        holder = None
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            holder = file.read() or 'that has just started'
        file.close()
        return None, [holder]
