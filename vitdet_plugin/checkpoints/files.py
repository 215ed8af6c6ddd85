"""Reading checkpoint files safely: tensors, arrays and plain containers come out, code never runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdet_plugin.compat.safe_load import load_torch_file
from vitdet_plugin.errors import UserError


def _array_from_buffer(buffer, dtype, shape, order, axes=None) -> np.ndarray:
    """What arrays in pickles of protocol 5 are made by."""
    array = np.frombuffer(buffer, dtype=dtype)
    return array.reshape(shape).transpose(axes) if axes is not None else array.reshape(shape, order=order)


# What a pickle of arrays needs, and nothing else. numpy moved its internals from core to _core in 2.0.
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
            raise UserError(f'refuses to load {module}.{name}; only numpy arrays and plain containers are let in')
        return _PICKLE_ALLOWED[module, name]


def load_file(path: str | Path) -> dict[str, Any]:
    """Read ``.pth`` / ``.pt``, ``.safetensors`` or detectron2's ``.pkl``, told apart by their content.

    Raises:
        UserError: the file is missing, damaged, of no known kind, or holds anything but data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} does not exist; give the path of a checkpoint file')
    try:
        if zipfile.is_zipfile(path):
            content = load_torch_file(path)
        elif path.suffix == '.safetensors' or _is_safetensors(path):
            from safetensors.torch import load_file as load_safetensors
            content = load_safetensors(path)
        elif path.suffix == '.pkl':
            content = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding='latin1').load()
        else:  # torch's format before 1.6
            content = load_torch_file(path)
    except UserError as error:
        raise UserError(f'{path}: {error}' if str(path) not in str(error) else str(error)) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{path} is damaged or no checkpoint ({reason}); fetch it again') from None
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not a dict of weights')
    return content


def load_state_dict_file(path: str | Path) -> dict[str, Tensor]:
    """The flat state dict of a checkpoint file, out of whatever wrapping (``state_dict``, ``model``,
    ``module``, ``model_ema``).

    A ``module.`` prefix of data parallel training is taken off.
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
        raise UserError(f'{path} holds no tensors under state_dict, model or at its top; is it a model checkpoint?')
    return state


def _is_safetensors(path: Path) -> bool:
    """Eight bytes with the length of the header, then the header, a JSON object."""
    with open(path, 'rb') as file:
        head = file.read(9)
    return head[8:] == b'{' and int.from_bytes(head[:8], 'little') < path.stat().st_size


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'
