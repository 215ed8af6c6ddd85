"""A hook that stops training, or skips the step, when the loss is not finite."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from vitdet_plugin.compat.atomic_save import save_atomically
from vitdet_plugin.compat.optim_step import guard_steps, mark_losses, watch_losses
from vitdet_plugin.engine.device_guard import DeviceGuard, why_not
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import check_whole

DEFERRED = 10  # steps between two checks of the host on a GPU, about 5 seconds of a detector


def any_rank(flag: bool, like: torch.Tensor | None = None) -> bool:
    """Return whether ``flag`` is true on any rank; a collective call.

    Args:
        flag: The value of this rank.
        like: A tensor on the device used for communication; the CPU by default.
    """
    if not is_distributed():
        return flag
    value = torch.tensor([float(flag)], device='cpu' if like is None else like.device)
    all_reduce(value, 'max')
    return bool(value.item())


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop training or skip the step if the loss is NaN or infinite, before the weights are updated.

    Stopping writes ``nonfinite_iter_<n>.pth`` (the state before the step, ignored by ``--resume`` without a path) and
    ``nonfinite_iter_<n>.json`` (loss terms and image paths of every rank) to the work directory.

    With an interval above 1 the host does not wait for the loss: the optimizer leaves out such a step by itself, and
    the host is told at the end of the interval. When training stops, weights and optimizer are still those before the
    step; the schedules have advanced by the steps of the interval, and averaged weights have moved towards the weights.

    Args:
        action: 'stop' or 'skip'.
        max_skips: With ``action='skip'``, stop when more than this number of steps were skipped in this run.
        interval: Number of steps after which the host checks. By default 1 on a CPU, and 10 on a GPU if the optimizer
            is fused (:func:`vitdet_plugin.engine.device_guard.why_not`).

    Raises:
        UserError: If an argument is not valid; from the training step, if training stops.
    """

    def __init__(self, action: str = 'stop', max_skips: int = 100, interval: int | None = None):
        if action not in ('stop', 'skip'):
            raise UserError(f'NonFiniteLossHook: unknown action={action!r}. Use stop or skip.')
        check_whole(0, max_skips=max_skips)
        if interval is not None:
            check_whole(1, interval=interval)
        self.action, self.max_skips, self.interval = action, max_skips, interval
        self.skipped = 0
        self._guard: DeviceGuard | None = None
        self._steps: list[_Step] = []  # since the last check

    def before_train(self, runner) -> None:
        def is_refused(loss: torch.Tensor) -> bool:
            refused = any_rank(not bool(torch.isfinite(loss).all()), loss)
            if refused:
                self._handle(runner, self._steps[-1])
            return refused

        interval = self._usable_interval(runner)
        if interval > 1:
            self._guard = DeviceGuard(runner.optim_wrapper, interval, stays_refused=self.action == 'stop')
            is_new = mark_losses(runner.optim_wrapper, self._guard.mark)
        else:
            is_new = guard_steps(runner.optim_wrapper, is_refused)
        if is_new:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            watch_losses(model, self._receive_parts)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if self._guard is None:
            self._steps.clear()
        self._steps.append(_Step(runner.iter + 1, images_of(data_batch)))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._guard is not None and self._guard.is_full:
            self._check(runner)

    def before_val(self, runner) -> None:
        self._check(runner)

    def after_train(self, runner) -> None:
        self._check(runner)
        if self._guard is not None:
            self._guard.remove()

    def _usable_interval(self, runner) -> int:
        on_gpu = next(runner.model.parameters()).is_cuda
        interval = self.interval or (DEFERRED if on_gpu else 1)
        reason = why_not(runner) if interval > 1 else None
        if reason and self.interval:
            runner.logger.warning(f'NonFiniteLossHook: interval={self.interval} is not possible, checking every step: '
                                  f'{reason}')
        return 1 if reason else interval

    def _receive_parts(self, parts: dict) -> None:
        if self._steps:
            self._steps[-1].parts = {name: torch.as_tensor(value).detach() for name, value in parts.items()}

    def _check(self, runner) -> None:
        if self._guard is None:
            return
        steps, self._steps = self._steps, []
        for step, is_bad in zip(steps, self._guard.read()):
            if is_bad:
                self._handle(runner, step)

    def _handle(self, runner, step: _Step) -> None:
        parts = {name: float(value) for name, value in step.parts.items()}
        mine = dict(rank=get_rank(), losses={name: repr(value) for name, value in parts.items()}, images=step.images)
        everyone = all_gather_object(mine)
        bad = [each for each in everyone if any(v in ('nan', 'inf', '-inf') for v in each['losses'].values())]
        what = '; '.join(f'{", ".join(f"{k} {v}" for k, v in each["losses"].items() if v in ("nan", "inf", "-inf"))} '
                         f'for {", ".join(each["images"]) or "unnamed images"}' for each in bad)
        what = what or f'its gradients are not finite, for {", ".join(step.images) or "unnamed images"}'
        if self.action == 'skip' and self.skipped < self.max_skips:
            self.skipped += 1
            runner.message_hub.update_info('skipped_nonfinite_steps', self.skipped)
            runner.logger.log(logging.WARNING,
                              f'skipped iteration {step.number} ({self.skipped} skipped in total): {what}')
            return
        stem = f'nonfinite_iter_{step.number}'
        runner.save_checkpoint(runner.work_dir, f'{stem}.pth', meta=dict(epoch=runner.epoch, iter=step.number - 1),
                               by_epoch=False)
        if is_main_process():
            text = json.dumps(dict(iteration=step.number, ranks=everyone), indent=1).encode()
            save_atomically(os.path.join(runner.work_dir, f'{stem}.json'), lambda file: file.write(text))
        reason = f'more than {self.max_skips} steps were skipped; ' if self.action == 'skip' else ''
        raise UserError(f'{reason}the loss at iteration {step.number} is not finite: {what}. The weights before this '
                        f'step and the image paths are in {os.path.join(runner.work_dir, stem)}.pth and .json. Check '
                        'the images, lower the learning rate, clip gradients, or set '
                        'default_hooks.nonfinite_loss.action=skip.')


@dataclass
class _Step:
    """A training step: its number from 1, the images of the batch, and the parts of its loss."""

    number: int
    images: list[str]
    parts: dict[str, torch.Tensor] = field(default_factory=dict)


def images_of(batch) -> list[str]:
    """Return the paths or ids of the images of a training batch, '?' for images without either."""
    samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
    names = []
    for sample in samples if isinstance(samples, Sequence) else ():
        info = getattr(sample, 'metainfo', {})
        names.append(str(info.get('img_path') or info.get('img_id') or info.get('sample_idx') or '?'))
    return names
