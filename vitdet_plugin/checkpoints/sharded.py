"""Checkpoints in folders, to which each rank writes its part of the tensors (``torch.distributed.checkpoint``).

``content.pth`` has everything else. No file is unpickled without a list of allowed types, so reading a folder runs no
code from it.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import StorageMeta, TensorStorageMetadata
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, zeros

from vitdet_plugin.compat.atomic_save import save_atomically
from vitdet_plugin.compat.safe_load import load_checkpoint_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output_files import UNFINISHED

_CONTENT, _MARK = 'content.pth', 'sharded tensor'
_DATA_TYPES = {
    'torch.distributed.checkpoint.metadata': ('Metadata', 'MetadataIndex', 'StorageMeta', 'TensorStorageMetadata',
                                              'ChunkStorageMetadata', 'TensorProperties', '_MEM_FORMAT_ENCODING'),
    'torch.distributed.checkpoint.filesystem': ('_StorageInfo',),
    'torch.serialization': ('_get_layout',),
    'torch': ('Size',),
    **dict.fromkeys(('pathlib', 'pathlib._local'), ('PosixPath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath')),
}


def save_sharded(checkpoint: Mapping[str, Any], folder: str | os.PathLike) -> None:
    """Write a checkpoint as a folder, which is complete or not there; every rank has to call this.

    Args:
        checkpoint: Nested dicts and lists; sharded tensors (``DTensor``) are written by all ranks, the rest by the
            first one.
        folder: Where to write; an existing folder is replaced.

    Raises:
        UserError: It cannot be written.
    """
    folder = Path(folder)
    draft = folder.with_name(f'.{folder.name}{UNFINISHED}')
    sharded: dict[str, Tensor] = {}
    content = _take_out(checkpoint, '', sharded)
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    if is_first:
        shutil.rmtree(draft, ignore_errors=True)
        save_atomically(draft / _CONTENT, lambda stream: torch.save(content, stream))
    _wait()
    try:
        dcp.save(sharded, checkpoint_id=draft)
    except (Exception, dcp.CheckpointException) as error:
        raise UserError(f'{folder} could not be saved: {_reason(error)}. Free some space or choose another --work-dir, '
                        'then continue with --resume') from error
    if is_first:
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)
    _wait()


def load_sharded(folder: str | os.PathLike, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Read a folder that :func:`save_sharded` wrote.

    Args:
        folder: The folder.
        mesh: Ranks over which the tensors are sharded, all of which have to call this; None for whole tensors on the
            CPU in this process.

    Raises:
        UserError: It is not such a folder, it is damaged, or contains objects other than tensors and plain data.
    """
    folder = Path(folder)
    if not is_sharded(folder):
        raise UserError(f'{folder} is not a sharded checkpoint: it has no {_CONTENT} and .metadata; give a file, or a '
                        'folder that a training with strategy.state_dict_cfg=sharded wrote')
    content = load_checkpoint_file(folder / _CONTENT)
    try:
        stored = _Reader(folder).read_metadata().state_dict_metadata
        if not all(isinstance(each, TensorStorageMetadata) for each in stored.values()):
            raise pickle.UnpicklingError('it has entries that are not tensors')
        sharded = {name: _empty(each, mesh) for name, each in stored.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'torch.distributed is (disabled|unavailable|uninitialized)')
            dcp.load(sharded, storage_reader=_Reader(folder), no_dist=mesh is None)
    except (Exception, dcp.CheckpointException) as error:
        raise UserError(f'{folder} cannot be read as a sharded checkpoint ({_reason(error)}); use another one'
                        ) from error
    return _put_back(content, sharded)


def is_sharded(path: str | os.PathLike) -> bool:
    """Whether a path is a folder with the files of a sharded checkpoint."""
    return (Path(path) / _CONTENT).is_file() and (Path(path) / '.metadata').is_file()


def _empty(stored: TensorStorageMetadata, mesh: DeviceMesh | None) -> Tensor:
    if mesh is None:
        return torch.empty(stored.size, dtype=stored.properties.dtype)
    return zeros(*stored.size, dtype=stored.properties.dtype, device_mesh=mesh, placements=[Shard(0)])


def _take_out(value: Any, key: str, found: dict[str, Tensor]) -> Any:
    """Return a copy of ``value`` with marks in place of sharded tensors, which are added to ``found``."""
    if isinstance(value, DTensor):
        found[key] = value.detach()
        return {_MARK: key}
    if isinstance(value, Mapping):
        return {name: _take_out(each, f'{key}/{name}', found) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_take_out(each, f'{key}/{index}', found) for index, each in enumerate(value))
    return value


def _put_back(value: Any, found: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {_MARK}:
            return found[value[_MARK]]
        for name in value:
            value[name] = _put_back(value[name], found)  # type: ignore[index]
        return value
    if type(value) in (list, tuple):
        return type(value)(_put_back(each, found) for each in value)
    return value


def _reason(error: BaseException) -> str:
    """Return the first line of an error, or of the first error of all ranks."""
    if isinstance(error, dcp.CheckpointException) and error.failures:  # a BaseException
        error = next(iter(error.failures.values()))[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Reader(dcp.FileSystemReader):
    """Reader of the files whose description may contain data only; torch's own unpickles it in full."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        metadata = _Unpickler(io.BytesIO((Path(self.path) / '.metadata').read_bytes())).load()
        metadata.storage_meta = getattr(metadata, 'storage_meta', None) or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        folder = Path(self.path).resolve()
        for each in metadata.storage_data.values():
            if (folder / each.relative_path).resolve().parent != folder:
                raise pickle.UnpicklingError(f'it refers to {each.relative_path}, which is outside of the folder')
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name not in _DATA_TYPES.get(module, ()):
            raise pickle.UnpicklingError(f'it refers to {module}.{name}, which is not plain data; nothing of it was '
                                         'executed')
        return super().find_class(module, name)


def _wait() -> None:
    if dist.is_initialized():
        with contextlib.suppress(ValueError):
            dist.barrier()
