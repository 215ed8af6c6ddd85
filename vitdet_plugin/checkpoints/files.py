"""Read checkpoint files safely: they give tensors, arrays and plain containers, and never run code."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vitdet_plugin.compat.checked_file import is_archive
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


def load_file(path: str | Path) -> dict[str, Any]:
    """Read ``.pth`` / ``.pt``, ``.safetensors`` or detectron2's ``.pkl``, distinguished by their content.

    Within ``utils.kept_files.keep_files`` each file is read once. Tensors may be mapped from the file: copy those that
    outlive it.

    Raises:
        UserError: The file is missing, damaged, of an unknown kind, or contains objects other than data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} does not exist; give the path of a checkpoint file')
    try:
        content = _read(path)
    except UserError as error:
        raise UserError(f'{path}: {error}' if str(path) not in str(error) else str(error)) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{path} is damaged or not a checkpoint ({reason}); download it again') from None
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not a dict of weights; give a checkpoint of a model')
    return content


def load_state_dict_file(path: str | Path) -> dict[str, Tensor]:
    """Return the flat state dict of a checkpoint file, at its top or in ``state_dict``, ``model``, ``module``,
    ``model_ema``.

    A ``module.`` prefix of data parallel training is removed.

    Raises:
        UserError: See :func:`load_file`; or the file holds no tensors.
    """
    content = load_file(path)
    for key in ('state_dict', 'model', 'module', 'model_ema'):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {name: torch.from_numpy(np.array(value, order='C')) if _is_numeric(value) else value
             for name, value in content.items()}
    state = {name.removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(f'{path} holds no tensors under state_dict, model or at its top; give a checkpoint of a model')
    return state


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


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'
