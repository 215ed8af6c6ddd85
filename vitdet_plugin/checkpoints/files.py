"""Read checkpoint files safely: they give tensors, arrays and plain containers, and never run code."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.checkpoints.prefixes import select_prefix, strip_wrappers
from vitdet_plugin.checkpoints.published import explain_unknown
from vitdet_plugin.checkpoints.weights import find_weights
from vitdet_plugin.checkpoints.work_dirs import CHECKPOINT_NAMES
from vitdet_plugin.compat.checked_file import is_archive
from vitdet_plugin.compat.file_kinds import describe_wrong_file
from vitdet_plugin.compat.remote_files import STORES, scheme_of
from vitdet_plugin.compat.safe_load import load_checkpoint_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import read_once


def _array_from_buffer(buffer: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: Literal['C', 'F'],
                       axes: tuple[int, ...] | None = None) -> np.ndarray:
    """Rebuild an array of a pickle of protocol 5."""
    array = np.frombuffer(buffer, dtype=dtype)
    return array.reshape(shape).transpose(axes) if axes is not None else array.reshape(shape, order=order)


# The only globals that a pickle of arrays needs. NumPy 2.0 moved its internals from core to _core.
_NUMPY_CORE = getattr(np, '_core', None) or np.core
_PICKLE_ALLOWED = {
    (f'numpy.{core}.multiarray', name): getattr(_NUMPY_CORE.multiarray, name)
    for core in ('core', '_core') for name in ('_reconstruct', 'scalar')
} | {
    ('numpy.core.numeric', '_frombuffer'): _array_from_buffer,
    ('numpy._core.numeric', '_frombuffer'): _array_from_buffer,
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('collections', 'OrderedDict'): OrderedDict,
    ('_codecs', 'encode'): lambda text, encoding='latin1': text.encode(encoding),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain containers only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLE_ALLOWED:
            raise UserError(f'refuses to load {module}.{name}; only NumPy arrays and plain containers are allowed')
        return _PICKLE_ALLOWED[module, name]


@dataclass
class Weights:
    """State dict of a checkpoint file.

    Attributes:
        state: Weights by the names in the file, without the prefix that was asked for.
        path: The file, as it was given.
        key: Where in the file they are; empty for its top.
        note: Which of several sets of weights was read, or empty.
    """

    state: dict[str, Tensor]
    path: str
    key: str = ''
    note: str = ''


def load_file(path: str | Path) -> dict[str, Any]:
    """Read ``.pth`` / ``.pt``, ``.safetensors`` or detectron2's ``.pkl``, distinguished by their content.

    Within ``utils.kept_files.keep_files`` each file is read once. Tensors may be mapped from the file: copy those that
    outlive it.

    Args:
        path: A path (relative to the current directory; ``~`` and ``$VARIABLE`` are resolved), ``file://``, a name of
            published weights, a work directory, a URL or a name of mmengine's model zoos, see
            ``checkpoints.fetching.local_file``.

    Raises:
        UserError: The file is missing, damaged, of an unknown kind, or contains objects other than data.
    """
    if scheme_of(path) in STORES:
        content = _from_store(str(path))
    else:
        hint = explain_unknown(path) or '; give the path of a checkpoint file'
        path = local_file(path)
        if not path.exists():
            here = '' if path.is_absolute() else f' in the current directory {os.getcwd()}'
            raise UserError(f'{path} does not exist{here}{hint}')
        if path.is_dir():
            raise UserError(f'{path} is a folder without checkpoints ({CHECKPOINT_NAMES}); give a file or a work '
                            'directory')
        content = _load_local(path)
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not a dict of weights; give a checkpoint of a model')
    return content


def read_weights(path: str | Path, key: str | None = None, prefix: str | None = None) -> Weights:
    """Read the state dict of a checkpoint file.

    Args:
        path: See :func:`load_file`.
        key: Where in the file the weights are; see :func:`~vitdet_plugin.checkpoints.weights.find_weights`.
        prefix: Part of the names that selects weights and is removed, such as 'backbone.'.

    Raises:
        UserError: See :func:`load_file`; or the file holds no weights there.
    """
    state, chosen, note = find_weights(load_file(path), str(path), key)
    if not state:
        raise UserError(f'{path} holds no tensors under {key or "its top"}; give a checkpoint of a model')
    return Weights(select_prefix(state, prefix, str(path)) if prefix else state, str(path), chosen, note)


def load_state_dict_file(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint file, without the names of wrappers such as ``module.``.

    Raises:
        UserError: See :func:`read_weights`.
    """
    return strip_wrappers(read_weights(path, key).state, str(path))


def is_torch_file(path: str | Path) -> bool:
    """Whether mmengine can read the file; it reads torch's formats only."""
    return is_archive(path) or Path(path).suffix not in ('.safetensors', '.pkl') and not _is_safetensors(Path(path))


def _load_local(path: Path) -> Any:
    try:
        if wrong := describe_wrong_file(path):
            raise UserError(f'{path} {wrong}')
        return _read(path)
    except UserError as error:
        raise UserError(f'{path}: {error}' if str(path) not in str(error) else str(error)) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{path} is damaged or not a checkpoint ({reason}); download it again') from None


def _from_store(name: str) -> Any:
    from mmengine.runner.checkpoint import CheckpointLoader
    try:
        return CheckpointLoader.load_checkpoint(name, 'cpu')
    except Exception as error:  # optional packages and their errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{name} cannot be read by mmengine ({reason}); download it and give its path') from error


def _read(path: Path) -> Any:
    if is_archive(path):
        return load_checkpoint_file(path, mmap=True)
    if path.suffix == '.safetensors' or _is_safetensors(path):
        from safetensors.torch import load_file as load_safetensors
        return read_once(path, lambda: load_safetensors(path))
    if path.suffix == '.pkl':
        return read_once(path, lambda: _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding='latin1').load())
    return load_checkpoint_file(path)  # torch's format before 1.6


def _is_safetensors(path: Path) -> bool:
    """Whether the file starts with the length of a header (8 bytes) and a JSON object."""
    with open(path, 'rb') as file:
        head = file.read(9)
    return head[8:] == b'{' and int.from_bytes(head[:8], 'little') < path.stat().st_size
