"""Find the calls that copy a value from the device to the host, which a GPU would have to wait for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Methods that return host values, or tensors whose size depends on values. The dispatcher reports the first ones only
# for single elements, and not those of lists and arrays of tensors on the CPU.
_METHODS = {Tensor.tolist: 'tolist', Tensor.cpu: 'cpu', Tensor.numpy: 'numpy', Tensor.__array__: 'numpy'}
_OPERATORS = {'aten::_local_scalar_dense': 'item', 'aten::nonzero': 'nonzero', 'aten::masked_select': 'masked_select',
              'aten::_unique2': 'unique', 'aten::unique_dim': 'unique'}

_PACKAGES = ('mmdet', 'mmengine', 'mmpretrain', 'mmcv', 'vitdet_plugin', 'ops_dcnv3')


@contextmanager
def count_host_syncs() -> Iterator[Counter[tuple[str, str]]]:
    """Count them by ``(file:function, kind)``; the file is the innermost one outside of torch.

    Indexing with a mask counts as ``nonzero``. ``item`` includes ``bool(tensor)``, ``float(tensor)``, ``if tensor:``.
    """
    found: Counter[tuple[str, str]] = Counter()
    with _Operators(found), _Methods(found):
        yield found


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _OPERATORS.get(func._schema.name)
        if func._schema.name == 'aten::index' and any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
            kind = 'nonzero'
        if kind:
            self.found[_caller(), kind] += 1
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _METHODS:
            self.found[_caller(), _METHODS[func]] += 1
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if '/torch/' not in file and not file.endswith('host_syncs.py'):
            parts = file.removesuffix('.py').split('/')
            package = max((i for i, part in enumerate(parts) if part in _PACKAGES), default=-1)
            return f'{".".join(parts[package:])}:{frame.f_code.co_name}'
        frame = frame.f_back
    return 'torch'
