"""Count the operations that a GPU would run one after the other, without one; each costs the CPU some microseconds."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_NO_KERNEL = {'lift_fresh', 'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', 'promote_types'}


class Operations(TorchDispatchMode):
    """Context that counts the operations of PyTorch except views and allocations.

    Args:
        results: name of an operator -> function that imitates it; its arguments are those of the operator.

    Attributes:
        counts: name of the operation -> number of calls.
    """

    def __init__(self, results: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.results, self.counts = results or {}, Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.results:
            self.counts[name] += 1
            return self.results[name](*args)
        result = func(*args, **(kwargs or {}))
        if name not in _NO_KERNEL and not _is_view(args, result):
            self.counts[name] += 1
        return result

    @property
    def total(self) -> int:
        """Number of operations."""
        return sum(self.counts.values())


def _is_view(args: Any, result: Any) -> bool:
    """Whether a result shares memory with an argument that it does not change."""
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    return any(isinstance(x, torch.Tensor) and isinstance(first, torch.Tensor) and x is not first
               and x.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for x in args)
