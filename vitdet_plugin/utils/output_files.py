"""Write files so that a full disk, a crash or a kill leaves the old file or the new one, never an incomplete one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from vitdet_plugin.errors import UserError

UNFINISHED = '.unfinished'  # end of the names of files and folders that are not complete
ADVICE = 'Free some space or choose another path'


class LongNameError(UserError):
    """The name of a file to write is longer than the file system permits."""


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object], *, advice: str = ADVICE,
                     find_damage: Callable[[Path], str | None] | None = None, sync: bool = False) -> None:
    """Replace ``path`` by what ``write`` writes into a binary stream, or leave it unchanged; its folder is created.

    A symbolic link is kept, and the file that it names is replaced. Devices and pipes are written directly.

    Args:
        path: File to write.
        write: Writes the content.
        advice: What the user can do if it cannot be written.
        find_damage: Returns what is wrong with the complete file, or None; called before it is renamed.
        sync: Whether to flush the file and its folder to the disk, so that it survives a loss of power.

    Raises:
        UserError: It cannot be written (full disk, missing permission, long name) or is damaged; the line names it.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    # independent of the name of the target, which may be as long as the file system permits
    draft = target.with_name(f'.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}')
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with open(target, 'wb') as file:
                write(file)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, 'wb') as file:
            stream = _Stream(file)
            try:
                write(stream)  # type: ignore[arg-type]
            except Exception as error:
                raise (stream.error or error) from None  # torch reports "unexpected pos" for a full disk
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if damage := find_damage(draft) if find_damage else None:
            raise UserError(f'{path} could not be saved: {damage} when read back; check the disk. An existing '
                            'file was not changed')
        os.replace(draft, target)
        if sync:
            _sync_folder(target.parent)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise LongNameError(f'{path} could not be saved: its name is too long for the file system; use a shorter '
                                'one') from error
        raise UserError(f'{path} could not be saved: {error.strerror or error}; an existing file was not changed. '
                        f'{advice}') from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text file in UTF-8 with :func:`write_atomically`.

    Half of a surrogate pair, which UTF-8 cannot represent, becomes an escape such as ``\udce4``, as JSON writes it.

    Raises:
        UserError: It cannot be written.
    """
    write_atomically(path, lambda file: file.write(text.encode('utf-8', 'backslashreplace')))


class _Stream:
    """A binary stream that stores the error of the operating system when a write fails."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def write(self, data) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str):
        return getattr(self._file, name)


def _sync_folder(folder: Path) -> None:
    """Flush the renaming itself to the disk; not every system can open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)
