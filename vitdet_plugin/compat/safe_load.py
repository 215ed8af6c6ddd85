"""Load checkpoints without running code that came with them.

mmengine tries ``weights_only=True`` and, when that fails, falls back to full unpickling, which executes code from the
file. Here it is always ``weights_only=True``, with the few additional types that mmengine's own checkpoints contain.
"""

import argparse
import contextlib
import contextvars
import copy
import datetime
import functools
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, print_log

from vitdet_plugin.compat.checked_file import ARCHIVE_ERRORS, CheckedFile, describe_archive_error, is_archive
from vitdet_plugin.compat.file_kinds import describe_wrong_file
from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.compat.remote_files import download
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import is_keeping, read_once

_trusting = contextvars.ContextVar('trusting', default=False)
_SLACK = 1 << 20


class DamagedFileError(UserError):
    """A checkpoint that is truncated or whose checksums are wrong; ``reason`` is the message without the path."""

    def __init__(self, path, reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.reason = reason

    def __str__(self) -> str:
        return '{} cannot be used: {}'.format(*self.args)


def load_checkpoint_file(path, map_location='cpu', check: bool = False, mmap: bool = False):
    """Read a torch checkpoint file; within ``utils.kept_files.keep_files`` each file is read once.

    Args:
        path: Local file.
        map_location: Device of the tensors, as for ``torch.load``.
        check: Verify the checksums of all records while reading.
        mmap: Map the tensors of a file on the CPU instead of copying them, for content that is dropped soon.

    Returns:
        The content. Its containers are copies and may be changed; tensors may be shared with later calls.

    Raises:
        DamagedFileError: With ``check``: the file is missing, empty or truncated, or a checksum is wrong.
        UserError: See :func:`load_torch_file`.
    """
    read = functools.partial(_load_checked, path) if check else functools.partial(load_torch_file, path, mmap=mmap)
    device = 'cpu' if map_location is None else map_location
    if not is_keeping() or _trusting.get() or not isinstance(device, (str, torch.device)) or not os.path.isfile(path):
        return read(map_location=device)
    return _copy_containers(read_once(path, read, is_checked=check), torch.device(device))


def load_torch_file(file, map_location='cpu', mmap: bool = False):
    """Read a torch checkpoint from a path or a binary stream, by default onto the CPU.

    Args:
        file: Path or binary stream.
        map_location: As for ``torch.load``.
        mmap: Map the tensors of a file on the CPU instead of copying them, where the file allows it.

    Raises:
        UserError: The file is damaged, or contains objects other than tensors, plain containers, NumPy arrays and
            mmengine's own records. Nothing from the file has been executed.
    """
    name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else getattr(file, 'name', 'checkpoint stream')
    if isinstance(file, (str, os.PathLike)) and name.endswith('.safetensors') and is_archive(file):
        with open(file, 'rb') as stream:  # torch >= 2.14 reads a path by its suffix; a stream by its content
            return load_torch_file(stream, map_location)
    can_map = _check_archive(file, name)
    if isinstance(file, (str, os.PathLike)) and os.path.exists(file) and (wrong := describe_wrong_file(file)):
        raise UserError(f'{name}: cannot be read as a checkpoint: it {wrong}')
    if _trusting.get():
        print_log(f'loading {name} as trusted: code in it may run', logger='current')
        return torch.load(file, map_location=map_location, weights_only=False)
    try:
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(file, map_location=map_location, weights_only=True,
                                 mmap=(mmap and can_map and str(map_location) == 'cpu') or None)
        return _without_config(_with_tensors(content), name)
    except pickle.UnpicklingError as error:
        raise UserError(_explain(name, str(error))) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [''])[0]
        raise UserError(f'{name}: cannot be read as a checkpoint ({type(error).__name__}: {reason}); '
                        'if it is damaged or truncated, use another one') from error


def _with_tensors(content: Any) -> Any:
    """Replace NumPy arrays of weights by tensors, in place: those of ``state_dict``, or of a dict of arrays alone."""
    if not isinstance(content, dict):
        return content
    weights = content.get('state_dict', content)
    if isinstance(weights, dict) and (weights is not content or all(map(_is_array, content.values()))):
        for name, value in weights.items():
            if _is_array(value):
                weights[name] = torch.from_numpy(np.array(value, order='C'))
    return content


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'


def _load_checked(path, map_location='cpu'):
    """As :func:`load_torch_file`, and raise `DamagedFileError` if a checksum does not match."""
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        raise DamagedFileError(path, 'it is empty' if os.path.isfile(path) else 'it does not exist')
    if not is_archive(path):  # torch's format before 1.6 has no checksums
        try:
            return load_torch_file(path, map_location)
        except UserError as error:
            raise DamagedFileError(path, f'it {describe_wrong_file(path) or "is truncated or not a checkpoint"}'
                                   ) from error
    try:
        file = CheckedFile(path)
    except ARCHIVE_ERRORS as error:
        raise DamagedFileError(path, describe_archive_error(error)) from error
    _check_archive(path, os.fspath(path))
    with file:
        failure, content = None, None
        try:
            content = load_torch_file(file, map_location)
        except UserError as error:
            failure = error
        if damage := file.find_damage():
            raise DamagedFileError(path, damage) from failure
    if failure:
        raise failure
    return content


def _copy_containers(value, device: torch.device):
    """Copy dicts, lists and tuples at every level, with their tensors on ``device``."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.detach().to(device)
    if isinstance(value, dict):
        copied = copy.copy(value)  # keeps the type and a state dict's _metadata
        for key in value:
            copied[key] = _copy_containers(value[key], device)
        return copied
    if type(value) in (list, tuple):
        return type(value)(_copy_containers(each, device) for each in value)
    return value


@contextlib.contextmanager
def trusted() -> Iterator[None]:
    """Let `load_torch_file` unpickle in full within this block, so that a file can run code.

    For files that you wrote yourself. Only the converter uses it, with ``--trust``.
    """
    token = _trusting.set(True)
    try:
        yield
    finally:
        _trusting.reset(token)


_WHY = 'falls back to full unpickling, which executes code from the file'
_FORK = Patch('mmengine.runner.checkpoint', '_safe_torch_load', why=_WHY, upstream='onedl-mmengine 0.10')
_LOCAL = Patch('mmengine.runner.checkpoint.CheckpointLoader', '_schemes', upstream='mmengine 0.10 before the fork',
               why='cannot read mmengine\'s own checkpoints with torch >= 2.6; replaced by its register_scheme("")')
_URL = Patch('mmengine.runner.checkpoint', 'load_url', why=_WHY, upstream='mmengine 0.10')


def install() -> None:
    """Replace mmengine's loading by `load_torch_file`, for every route by which it reads a checkpoint."""
    from mmengine.runner import checkpoint

    if hasattr(checkpoint, '_safe_torch_load'):  # the maintained fork: one function serves all schemes
        _FORK.install(lambda original: _like_mmengine)
    else:  # upstream mmengine calls torch.load, safe since torch 2.6 but unable to read its own local checkpoints
        checkpoint.CheckpointLoader.register_scheme('', _load_from_local, force=True)
        _LOCAL.installed = True
    _URL.install(lambda original: _load_from_url)  # http(s):// and model zoos: torch's own would unpickle in full


def _without_config(checkpoint, name: str):
    """Drop ``meta.config``, which mmengine would execute as a Python config when it resumes.

    mmengine saves configs under ``meta.cfg``, which its runner does not execute.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(f'{name}: ignoring the config in the checkpoint; configs are code and are read from files only',
                  logger='current')
    return checkpoint


def _like_mmengine(file, map_location=None, weights_only=None):
    if isinstance(file, (str, os.PathLike)):
        return load_checkpoint_file(file, map_location or 'cpu')
    return load_torch_file(file, map_location or 'cpu')


def _load_from_local(filename: str, map_location=None):
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    return load_checkpoint_file(filename, map_location or 'cpu')


def _load_from_url(url: str, model_dir: str | None = None, map_location=None, progress: bool = True):
    """Download once into the cache of torch, then load like any file."""
    return load_torch_file(download(url, model_dir), map_location or 'cpu')


def _history_method(owner: type, name: str) -> Callable:
    """Replacement of ``getattr`` in pickles: gives only the statistics methods of a `HistoryBuffer`."""
    if owner is not HistoryBuffer or name not in ('mean', 'max', 'min', 'current'):
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _plain_dict(factory=None) -> dict:
    """Replacement of ``defaultdict``, whose items torch's safe unpickler does not support."""
    return {}


def _allowed() -> list:
    """Return types that hold data only; functions are paired with the name that a pickle uses for them."""
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    rebuild = [(getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
               for name in ('_reconstruct', 'scalar') for core in ('core', '_core')]
    dtypes = {type(np.dtype(code)) for code in np.typecodes['All']}
    return [HistoryBuffer, ConfigDict, (_history_method, 'builtins.getattr'), (_history_method, '__builtin__.getattr'),
            *rebuild, np.ndarray, np.dtype, *dtypes, datetime.datetime, datetime.date, datetime.timedelta,
            (_plain_dict, 'collections.defaultdict'), dict, list, tuple, frozenset, slice, range,
            pathlib.PosixPath, pathlib.PurePosixPath, argparse.Namespace]


def _explain(name: str, message: str) -> str:
    refused = re.search(r'GLOBAL (\S+)|module (\S+) is blocked|(?:but got|function) (<[^>]*>)', message)
    if refused is None:
        return f'{name}: cannot be read as a checkpoint ({message.splitlines()[-1].strip()}); use another one'
    what = next(group for group in refused.groups() if group)
    return (f'{name}: refused, because it refers to {what}, which is not plain data; nothing of it was executed. '
            'Keep only its tensors (or convert it to safetensors) on an isolated machine; if it is your own class, '
            'allow it in your code by torch.serialization.add_safe_globals([CLASS])')


def _check_archive(file, name: str) -> bool:
    """Refuse an archive that unpacks to much more than its size: torch stores tensors uncompressed.

    Returns:
        Whether the file is an archive of uncompressed records, which can be mapped into memory.
    """
    if not isinstance(file, (str, os.PathLike)) or not is_archive(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UserError(f'{name}: cannot be read as a checkpoint ({error}); if it is damaged or truncated, use another '
                        'one') from error
    unpacked = sum(record.file_size for record in records)
    if unpacked > 2 * os.path.getsize(file) + _SLACK:
        raise UserError(f'{name}: refused, because it would unpack from {os.path.getsize(file)} to {unpacked} bytes; '
                        'torch does not compress checkpoints')
    return all(record.compress_type == zipfile.ZIP_STORED for record in records)
