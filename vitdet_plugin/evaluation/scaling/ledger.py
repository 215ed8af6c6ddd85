"""Count operations, bytes and live memory of a training step on fake tensors, without running it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from vitdet_plugin.ops import flops

HALF = (torch.bfloat16, torch.float16)


def _conv_backward_flops(grad: Tensor, x: Tensor, weight: Tensor, *args: Any, out_val: Any = None) -> int:
    """Each gradient costs what the forward pass does; torch counts that of a grouped weight as if it had no groups."""
    *_, transposed, _, _, output_mask = args
    flops: int = conv_flop_count(list(x.shape), list(weight.shape), list(grad.shape), transposed)
    return flops * sum(output_mask[:2])


@dataclass(frozen=True)
class Operation:
    """One operator call.

    Attributes:
        flops: Floating-point operations of matrix multiplications and convolutions, 2 for a multiply-accumulate.
        moved: Bytes read and written if nothing stays in a cache.
        is_half: Whether its inputs are bfloat16 or float16.
        is_backward: Whether it runs in the backward pass; recomputation of checkpointed blocks counts as such.
    """

    flops: int
    moved: int
    is_half: bool
    is_backward: bool


@dataclass
class Ledger:
    """Counts of one step.

    Attributes:
        operations: All operator calls that compute or move something.
        saved: Bytes of the tensors saved for the backward pass, each storage once; without parameters.
        peak: Largest number of bytes alive at one time, without parameters, inputs and gradients of parameters.
    """

    operations: list[Operation] = field(default_factory=list)
    saved: int = 0
    peak: int = 0
    is_backward: bool = False

    def record(self, flops: int, tensors: Sequence[Tensor]) -> None:
        """Add one operator call that reads or writes ``tensors``."""
        is_half = bool(tensors) and tensors[0].dtype in HALF
        self.operations.append(Operation(int(flops), sum(map(stored_bytes, tensors)), is_half, self.is_backward))

    def flops(self, is_backward: bool) -> int:
        """Return the floating-point operations of one pass."""
        return sum(each.flops for each in self.operations if each.is_backward == is_backward)

    @property
    def moved(self) -> int:
        """Bytes read and written by all operator calls."""
        return sum(each.moved for each in self.operations)


def stored_bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor's elements occupy; an expanded dimension counts once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def count_step(step: Callable[[], Sequence[Tensor]], constants: Sequence[Tensor], ledger: Ledger) -> Ledger:
    """Run a forward and a backward pass and count them.

    Args:
        step: Returns the outputs of the forward pass; gradients of the same shapes start the backward pass.
        constants: Parameters, buffers and inputs, which exist before the step. Their gradients do not count as memory.
        ledger: Filled in place, so that operators of ``step`` can add themselves; also returned.
    """
    with _Recorder(ledger, constants) as recorder, _gradients_do_not_count(constants, recorder):
        with _saved_storages(constants) as saved:
            outputs = [output for output in step() if output.requires_grad]
        ledger.saved = sum(saved.values())
        del saved
        ledger.is_backward = True
        torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
    return ledger


@contextmanager
def _saved_storages(constants: Sequence[Tensor]) -> Iterator[dict[int, int]]:
    """Yield a dict that receives the address and size of each storage saved for the backward pass."""
    known = {_address(tensor) for tensor in constants}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _address(tensor) not in known:
            found[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


@contextmanager
def _gradients_do_not_count(constants: Sequence[Tensor], recorder: _Recorder) -> Iterator[None]:
    def release(parameter: Tensor) -> None:
        if parameter.grad is not None:
            recorder.forget(parameter.grad)

    handles = [tensor.register_post_accumulate_grad_hook(release) for tensor in constants
               if isinstance(tensor, nn.Parameter) and tensor.requires_grad]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Recorder(TorchDispatchMode):
    """Records every operator call below autograd, and which storages are alive."""

    def __init__(self, ledger: Ledger, constants: Sequence[Tensor]) -> None:
        super().__init__()
        self.ledger = ledger
        self._constants = {_address(tensor) for tensor in constants}
        self._alive: dict[int, tuple[int, Any]] = {}
        flops.register()
        self._counts = {**flop_registry, torch.ops.aten.convolution_backward: _conv_backward_flops}
        self._bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        outputs = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        for tensor in outputs:
            self._allocate(tensor)
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        count = self._counts.get(func._overloadpacket)
        moved = _moved_tensors(func, inputs, outputs)
        if moved or count:
            self.ledger.record(count(*args, **kwargs, out_val=out) if count else 0, moved)
        return out

    def forget(self, tensor: Tensor) -> None:
        """Do not count a storage any longer."""
        size, _ = self._alive.pop(_address(tensor), (0, None))
        self._bytes -= size

    def _allocate(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _address(tensor)
        if key in self._alive or key in self._constants:
            return
        size = storage.nbytes()

        def release(reference: Any) -> None:
            if self._alive.get(key, (0, None))[1] is reference:
                del self._alive[key]
                self._bytes -= size

        self._alive[key] = (size, weakref.ref(storage, release))
        self._bytes += size
        self.ledger.peak = max(self.ledger.peak, self._bytes)


def _moved_tensors(func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
    """Return the tensors that a call reads and writes; none for views and for memory that is only allocated."""
    name = func._overloadpacket.__name__
    if name.startswith(('empty', 'new_empty')) or name in ('detach', 'lift_fresh', '_unsafe_view', 'set_'):
        return []
    addresses = {_address(tensor) for tensor in inputs}
    new = [tensor for tensor in outputs if _address(tensor) not in addresses]
    written = [tensor for tensor in outputs if _address(tensor) in addresses] if func._schema.is_mutable else []
    if not new and not written:
        return []  # a view
    return [*inputs, *new, *written]


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address
