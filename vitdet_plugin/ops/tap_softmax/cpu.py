"""Softmax over runs of the last dimension by the compiled CPU kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops.derivatives import register_derivative
from vitdet_plugin.ops.dispatch import Backend
from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.ops.native import STATUS, why_not


def tap_softmax_cpu(logits: Tensor, taps: int) -> Tensor:
    """(..., runs * taps) -> (..., runs * taps)."""
    out: Tensor = torch.ops.vitdet_plugin.tap_softmax(logits, taps)
    return out


def _register() -> None:
    """Register shapes for tracing, and the derivative."""
    def like_logits(logits: Tensor, taps: int) -> Tensor:
        return logits.new_empty(logits.shape)

    def like_result(grad: Tensor, result: Tensor, taps: int) -> Tensor:
        return result.new_empty(result.shape)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.taps = inputs[1]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        result, = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient may be differentiated itself
            weighted = (grad * result).unflatten(-1, (-1, ctx.taps))
            return (weighted - result.unflatten(-1, (-1, ctx.taps)) * weighted.sum(-1, keepdim=True)).flatten(-2), None
        return torch.ops.vitdet_plugin.tap_softmax_backward(grad, result, ctx.taps), None

    torch.library.register_fake(f'{NAMESPACE}::tap_softmax', like_logits)
    torch.library.register_fake(f'{NAMESPACE}::tap_softmax_backward', like_result)
    register_derivative(f'{NAMESPACE}::tap_softmax', setup_context, backward)


if STATUS['cpu'] is None:
    _register()

BACKEND = Backend('cpu', tap_softmax_cpu, why_not)
