"""Save files so that a crash, a full disk or a kill leaves the old file or the new one, never an incomplete one.

mmengine opens the final path and writes into it. Here a temporary file in the same folder is written, flushed to the
disk, verified against its checksums (the CRC-32 of every record of torch's archive) and then renamed.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from vitdet_plugin.compat.checked_file import ARCHIVE_ERRORS, describe_archive_error, is_archive
from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output_files import UNFINISHED, write_atomically

_ADVICE = 'Free some space or choose another --work-dir, then continue with --resume'


def save_atomically(path: str | Path, write: Callable[[BinaryIO], object], check: bool = False) -> None:
    """Write a file of a training run with :func:`write_atomically` and flush it to the disk.

    Args:
        path: File to replace.
        write: Writes the content into a binary stream.
        check: Verify the file before it is renamed; only for torch's archives.

    Raises:
        UserError: It cannot be written (full disk, missing permission) or verified.
    """
    write_atomically(path, write, advice=_ADVICE, find_damage=find_damage if check else None, sync=True)


def find_damage(path: str | Path) -> str | None:
    """Return why a checkpoint of torch is damaged, or None; every byte of tensors and records is checked.

    Files in torch's format before 1.6 have no checksums; for those it is only checked whether they can be read.
    """
    path = Path(path)
    if not path.is_file():
        return 'it does not exist'
    if path.stat().st_size == 0:
        return 'it is empty'
    if not is_archive(path):
        from vitdet_plugin.compat.safe_load import load_torch_file
        try:
            load_torch_file(path)
        except UserError:
            return 'it is truncated or not a checkpoint'
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except ARCHIVE_ERRORS as error:
        return describe_archive_error(error)
    return f'the checksum of its record {record} is wrong' if record else None


def remove_unfinished(folder: str | Path) -> None:
    """Remove the temporary files and folders of processes that were killed while saving into ``folder``."""
    for path in Path(folder).glob(f'.*{UNFINISHED}'):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def save_checkpoint(checkpoint: dict, filename: str, file_client_args=None, backend_args=None) -> None:
    """Replacement of mmengine's function of that name, which is still used for remote storage."""
    if '://' in str(filename) or file_client_args is not None or backend_args is not None:
        return _mmengine_save(checkpoint, filename, file_client_args, backend_args)
    save_atomically(filename, lambda stream: torch.save(checkpoint, stream), check=True)


def _put(backend: Any, obj: bytes, filepath: str | Path) -> None:
    write_atomically(filepath, lambda stream: stream.write(obj))


def _put_text(backend: Any, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
    _put(backend, obj.encode(encoding), filepath)


_DUMPS = [(Patch('mmengine.fileio.backends.local_backend.LocalBackend', function.__name__[1:], upstream='mmengine 0.10',
                 why='writes predictions, metrics and other results into the final file'), function)
          for function in (_put, _put_text)]
_PATCHES = [Patch(owner, 'save_checkpoint', upstream='mmengine 0.10',
                  why='writes into the final file, so that a crash while saving destroys the old checkpoint')
            for owner in ('mmengine.runner.checkpoint', 'mmengine.runner.runner', 'mmengine.runner')]
_mmengine_save: Callable


def install() -> None:
    """Replace mmengine's functions: `save_checkpoint` under every name by which its runners call it, and `dump`."""
    for patch in _PATCHES:
        patch.install(_replace)
    for patch, function in _DUMPS:
        patch.install(lambda _, function=function: function)


def _replace(original: Callable) -> Callable:
    global _mmengine_save
    if original is not save_checkpoint:
        _mmengine_save = original
    return save_checkpoint
