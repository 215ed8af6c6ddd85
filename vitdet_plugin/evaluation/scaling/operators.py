"""Stand-ins for what a GPU runs: fused attention, DCNv3's kernel, and the dtypes of CUDA's autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

from ops_dcnv3.functional import OPERATOR as DCNV3
from ops_dcnv3.geometry import Geometry
from vitdet_plugin.evaluation.scaling.ledger import Ledger
from vitdet_plugin.ops.dispatch import Backend
from vitdet_plugin.ops.rel_pos_attention import OPERATOR as REL_POS_ATTENTION
from vitdet_plugin.ops.tap_softmax import OPERATOR as TAP_SOFTMAX

_NAME = 'counted'
# CUDA's autocast computes these in float32, that of the CPU does not
_WIDE = (F.layer_norm, F.group_norm, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax,
         Tensor.log_softmax, torch.layer_norm, torch.group_norm)


class _Attention(torch.autograd.Function):
    """Fused attention: saves its inputs, the output and one float32 number for each query."""

    @staticmethod
    def forward(ctx: Any, ledger: Ledger, q: Tensor, k: Tensor, v: Tensor, *bias: Tensor) -> Tensor:
        out, totals = q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(q.shape[:-1], dtype=torch.float32)
        ledger.record(sdpa_flop_count(q.shape, k.shape, v.shape), [q, k, v, *bias, out, totals])
        ctx.save_for_backward(q, k, v, *bias, out, totals)
        ctx.ledger = ledger
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *bias, out, totals = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in (q, k, v, *bias)]
        flops = sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape)
        ctx.ledger.record(flops, [grad, q, k, v, *bias, out, totals, *gradients])
        return (None, *gradients)


class _Sampling(torch.autograd.Function):
    """DCNv3 by a kernel: saves its inputs; gradients of the values are summed in float32."""

    @staticmethod
    def forward(ctx: Any, ledger: Ledger, value: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        out = value.new_empty((*offset.shape[:3], value.shape[3]))
        ledger.record(0, [value, offset, mask, out])
        ctx.save_for_backward(value, offset, mask)
        ctx.ledger = ledger
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        sums = torch.empty_like(saved[0], dtype=torch.float32)
        gradients = [torch.empty_like(each) for each in saved]
        ctx.ledger.record(0, [grad, *saved, sums, *gradients])
        return (None, *gradients)


class _CudaForms(TorchFunctionMode):
    """PyTorch's fused attention as one counted operator, norms and softmax in float32."""

    def __init__(self, ledger: Ledger, dtype: torch.dtype) -> None:
        super().__init__()
        self.ledger, self.dtype = ledger, dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(self.ledger, *(each.to(self.dtype) for each in args[:3]))
        if func in _WIDE and args[0].dtype == self.dtype:
            args = (args[0].float(), *args[1:])
        return func(*args, **kwargs)


@contextmanager
def counted_operators(blocks: Iterable[nn.Module], ledger: Ledger, with_kernels: bool,
                      dtype: torch.dtype) -> Iterator[None]:
    """Use the operators of a GPU, whose work is added to ``ledger``, where a module names no implementation.

    Args:
        blocks: Modules that may be recomputed in the backward pass, beyond the reach of this context; changed in place.
        ledger: Receives the operations.
        with_kernels: Whether relative positions and DCNv3 have kernels of their own. Without, relative positions are
            folded into longer queries and keys of PyTorch's fused attention, and DCNv3 runs in PyTorch.
        dtype: Dtype of mixed precision.
    """
    def attend(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float) -> Tensor:
        out: Tensor = _Attention.apply(ledger, q * scale, k, v, rel_h.to(q.dtype), rel_w.to(q.dtype))
        return out

    def sample(value: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
        out: Tensor = _Sampling.apply(ledger, *(each.to(value.dtype) for each in (value, offset, mask)))
        return out

    operators = ((REL_POS_ATTENTION, attend, 'folded'), (DCNV3, sample, 'pytorch'), (TAP_SOFTMAX, None, 'pytorch'))
    before = [operator.default for operator, _, _ in operators]
    try:
        for operator, kernel, other in operators:
            operator.default = other
            if with_kernels and kernel is not None:
                operator.backends[_NAME] = Backend(_NAME, kernel, lambda case: None)
                operator.default = _NAME
        for block in blocks:
            block.forward = partial(_run_within, ledger, dtype, block.forward)
        with _CudaForms(ledger, dtype):
            yield
    finally:
        for (operator, _, _), default in zip(operators, before):
            operator.default = default
            operator.backends.pop(_NAME, None)


def _run_within(ledger: Ledger, dtype: torch.dtype, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _CudaForms(ledger, dtype):
        return forward(*args, **kwargs)
