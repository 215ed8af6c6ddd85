"""Refuse optimizer steps with non-finite values on the device, without waiting for it."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


class DeviceGuard:
    """Lets a fused optimizer leave out the steps whose loss or gradients are not finite.

    A non-finite loss is replaced by NaN, so that the gradients of every rank are not finite after their reduction.
    Before each step of the optimizer the gradients are examined on the device, and ``optimizer.found_inf`` is set, with
    which torch's gradient scaler lets a fused optimizer keep weights and state. The host reads the flags of several
    steps at once.

    Args:
        optim_wrapper: Wrapper of a fused optimizer; see :func:`why_not`.
        steps: Number of steps between two reads.
        stays_refused: Whether all steps after the first refused one are refused too, so that the weights remain those
            before it until the flags are read.
    """

    def __init__(self, optim_wrapper: OptimWrapper, steps: int, stays_refused: bool) -> None:
        self.optimizer, self.stays_refused = optim_wrapper.optimizer, stays_refused
        device = self.optimizer.param_groups[0]['params'][0].device
        self._flags = torch.zeros(steps, dtype=torch.float32, device=device)
        self._refused = torch.zeros((), dtype=torch.float32, device=device)
        self._is_known = torch.zeros((), dtype=torch.bool, device=device)  # the loss of this optimizer step is flagged
        self._next = 0
        self._handles = [self.optimizer.register_step_pre_hook(self._before_step),
                         self.optimizer.register_step_post_hook(self._after_step)]

    def mark(self, loss: Tensor) -> Tensor:
        """Flag this step if its loss (a scalar) is not finite; returns the loss to back-propagate."""
        is_bad = ~torch.isfinite(loss.detach())
        self._flags[self._next].copy_(is_bad)
        self._is_known.logical_or_(is_bad)
        self._next += 1
        return loss * torch.where(is_bad, math.nan, 1.0).to(loss.dtype)

    @property
    def is_full(self) -> bool:
        """Whether the flags have to be read before the next step."""
        return self._next == len(self._flags)

    def read(self) -> list[bool]:
        """Return for each step since the last call whether it was not finite on any rank; waits for the device."""
        if not self._next:
            return []
        all_reduce(self._flags, 'max')  # every rank reads in the same step
        flags = [bool(flag) for flag in self._flags[:self._next].tolist()]
        self._flags.zero_()
        self._next = 0
        return flags

    def remove(self) -> None:
        """Let the optimizer step as before."""
        for handle in self._handles:
            handle.remove()

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group['params']
                     if parameter.grad is not None]
        if not gradients:
            return
        largest = torch.stack([each.float() for each in torch._foreach_norm(gradients, math.inf)])
        is_bad = ~torch.isfinite(largest).all()
        new = is_bad & ~self._is_known
        self._flags[self._next - 1].copy_(torch.maximum(self._flags[self._next - 1], new.float()))
        self._is_known.zero_()
        refused = is_bad.float()
        self._refused.copy_(torch.maximum(self._refused, refused) if self.stays_refused else refused)
        optimizer.found_inf = self._refused

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        optimizer.__dict__.pop('found_inf', None)


def why_not(runner: Any) -> str | None:
    """Return why a run cannot use :class:`DeviceGuard`; None if it can."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        return 'the run has several optimizers'
    if not all(group.get('fused') for group in wrapper.optimizer.param_groups):
        return f'{type(wrapper.optimizer).__name__} is not fused (optim_wrapper.optimizer.fused=True)'
    scaler = getattr(wrapper, 'loss_scaler', None)
    if scaler is not None and scaler.is_enabled():
        return 'the gradient scaler of fp16 decides about the steps'
    if isinstance(runner.model, FSDPModule):
        return 'the model is sharded'
    if is_model_wrapper(runner.model) and not isinstance(runner.model, DistributedDataParallel):
        return f'{type(runner.model).__name__} does not reduce whole gradients'
    return None
