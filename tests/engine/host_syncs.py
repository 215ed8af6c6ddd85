"""Count waits for a GPU and launches of operators, in code that runs on a CPU."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Methods that return host values, or copy numbers of the host to the device. The dispatcher reports the first ones only
# for single elements, and not those of lists and arrays of tensors on the CPU.
_METHODS = {Tensor.tolist: 'tolist', Tensor.cpu: 'cpu', Tensor.numpy: 'numpy', Tensor.__array__: 'numpy',
            Tensor.new_tensor: 'new_tensor'}
_FACTORIES = {torch.tensor: 'tensor', torch.as_tensor: 'tensor'}
_OPERATORS = {'aten::_local_scalar_dense': 'item', 'aten::nonzero': 'nonzero', 'aten::masked_select': 'masked_select',
              'aten::_unique2': 'unique', 'aten::unique_dim': 'unique', 'aten::unique_consecutive': 'unique',
              'aten::equal': 'equal', 'aten::bincount': 'bincount', 'torchvision::nms': 'nms'}
# they launch no kernel, besides those for which `is_view` is true
_NO_KERNEL = ('aten::empty', 'aten::new_empty', 'aten::_unsafe_view', 'aten::lift_fresh', 'aten::_local_scalar_dense')

_PACKAGES = ('mmdet', 'mmengine', 'mmpretrain', 'mmcv', 'vitdet_plugin', 'ops_dcnv3')


@dataclass
class Counts:
    """What was counted.

    Attributes:
        waits: by ``(file:function, kind)``; the file is the innermost one outside of torch.
        operators: operators that launch a kernel, by part of the model, and 'backward' and 'rest'.
    """

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    part: str = 'rest'

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Count operators for ``part``."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def called_as(self, part: str, function: Callable) -> Callable:
        """Return ``function`` whose operators count for ``part``."""
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.within(part):
                return function(*args, **kwargs)
        return counted


@contextmanager
def count_host_syncs(counts: Counts | None = None) -> Iterator[Counts]:
    """Count waits and operators while the context is entered.

    Indexing with a mask counts as ``nonzero``, and an operand that is a number, where the operator copies it to the
    device (``x[indices] = 1.0``, ``torch.where(mask, x, 0.0)``), as ``number``. ``item`` includes ``bool(tensor)``,
    ``float(tensor)`` and ``if tensor:``.
    """
    counts = counts or Counts()
    with _Operators(counts), _Methods(counts):
        yield counts


class _Operators(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        kind = _OPERATORS.get(name) or _kind_of_operands(name, args)
        if kind:
            self.counts.waits[_caller(), kind] += 1
        if not (func.is_view or name.startswith(_NO_KERNEL)):
            self.counts.operators[self.counts.part] += 1
        return func(*args, **(kwargs or {}))


def _kind_of_operands(name: str, args: Any) -> str | None:
    if name in ('aten::index', 'aten::index_put', 'aten::index_put_'):
        has_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        is_number = len(args) > 2 and args[2].ndim == 0
        # a number behind a mask is filled in
        return 'number' if is_number and not has_mask else 'nonzero' if has_mask and not is_number else None
    if name == 'aten::where' and len(args) == 3 and args[0].ndim and 0 in (args[1].ndim, args[2].ndim):
        return 'number'
    return None


class _Methods(TorchFunctionMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _METHODS.get(func)
        if func in _FACTORIES and (kwargs or {}).get('device') is not None:
            kind = _FACTORIES[func]
        if kind:
            self.counts.waits[_caller(), kind] += 1
        with self.counts.within('backward' if func is Tensor.backward else self.counts.part):
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
