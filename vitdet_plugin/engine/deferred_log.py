"""Log losses and the norm of the gradients without waiting for the GPU in every step."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import EMAHook, LoggerHook, RuntimeInfoHook
from mmengine.model.averaged_model import BaseAveragedModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS

from vitdet_plugin.compat.optim_step import clip_gradients, clip_with

_BAR = 10  # steps after which the progress bar shows the losses


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``; the values of several steps are copied to the host at once.

    They are copied before a log line is written, before a checkpoint is saved, and before a validation. The counters of
    averaged weights, on which decisions of the host depend, are moved to the host.

    Args:
        defers: Whether to do so; None for trainings on a GPU. Otherwise the values are copied in every step.
    """

    def __init__(self, defers: bool | None = None) -> None:
        self.defers = defers
        self._pending: list[tuple[str, Any]] = []

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if self.defers is None:
            self.defers = next(runner.model.parameters()).is_cuda
        if not self.defers:
            return
        for hook in runner.hooks:
            averaged = getattr(hook, 'ema_model', None)
            if isinstance(hook, EMAHook) and isinstance(averaged, BaseAveragedModel):
                averaged.steps = averaged.steps.cpu()
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper) and wrapper.clip_grad_kwargs:
            clip_with(wrapper, lambda: self._clip(wrapper))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not self.defers:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        self._pending += [(f'train/{key}', _without_graph(value)) for key, value in (outputs or {}).items()]
        if self._is_logged(runner, batch_idx):
            self._flush(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        self._flush(runner)
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def before_val(self, runner) -> None:
        self._flush(runner)
        super().before_val(runner)

    def after_train(self, runner) -> None:
        self._flush(runner)

    def _is_logged(self, runner, batch_idx: int) -> bool:
        intervals = {hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)}
        if runner.iter % _BAR == 0:
            return True
        return self.is_last_train_iter(runner) or self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_train_iters(runner, n) or self.every_n_inner_iters(batch_idx, n) for n in intervals)

    def _clip(self, wrapper: OptimWrapper) -> None:
        if found := clip_gradients(wrapper):
            self._pending.append((found[0], _without_graph(found[1])))

    def _flush(self, runner) -> None:
        pending, self._pending = self._pending, []
        tensors = [value for _, value in pending if isinstance(value, torch.Tensor)]
        numbers = iter(torch.stack([value.reshape(()).double() for value in tensors]).tolist() if tensors else ())
        for key, value in pending:
            runner.message_hub.update_scalar(key, next(numbers) if isinstance(value, torch.Tensor) else value)


def _without_graph(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
