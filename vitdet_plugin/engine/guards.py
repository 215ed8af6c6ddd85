"""What ends a training before its time: a signal to stop, and losses that are no numbers."""

import json
import logging
import os
import signal
from collections.abc import Sequence

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, is_distributed, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from vitdet_plugin.compat.atomic_save import write_atomically
from vitdet_plugin.compat.optim_step import guard_steps, watch_losses
from vitdet_plugin.engine.checkpoint_hook import AtomicCheckpointHook
from vitdet_plugin.errors import UserError


class Stopped(Exception):
    """Training was stopped by a signal and its state is saved; the text says where."""


def any_rank(flag: bool, like: torch.Tensor | None = None) -> bool:
    """Whether ``flag`` holds on any rank; all ranks must ask."""
    if not is_distributed():
        return flag
    value = torch.tensor([float(flag)], device='cpu' if like is None else like.device)
    all_reduce(value, 'max')
    return bool(value.item())


@HOOKS.register_module()
class StopHook(Hook):
    """On SIGTERM (pre-emption by SLURM, ``kill``, torchrun): finish the step, save, and end with :class:`Stopped`.

    With gradient accumulation it waits for the next optimiser step. A second signal ends the process at once.
    """

    priority = 'LOWEST'  # after the regular checkpoint of the same step

    def __init__(self):
        self._asked = False
        self._before = None

    def before_train(self, runner) -> None:
        try:
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
        except ValueError:  # not in the main thread: the host program decides about signals
            self._before = None

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not any_rank(self._asked, next(runner.model.parameters())):
            return
        if hasattr(runner.optim_wrapper, 'should_update') and not runner.optim_wrapper.should_update():
            return
        hook = next((each for each in runner.hooks if isinstance(each, CheckpointHook)), None)
        if isinstance(hook, AtomicCheckpointHook):
            path = hook.save_now(runner)
        else:
            name = f'iter_{runner.iter + 1}.pth'
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
            path = os.path.join(runner.work_dir, name)
        self._restore()
        raise Stopped(f'stopped by SIGTERM after iteration {runner.iter + 1}; saved {path}: go on with --resume')

    def after_train(self, runner) -> None:
        self._restore()

    def _on_signal(self, number, frame) -> None:
        if self._asked:
            self._restore()
            signal.raise_signal(signal.SIGTERM)
        self._asked = True

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Before a loss that is NaN or infinite reaches the weights: stop, or leave the step out and count it.

    Stopping writes ``nonfinite_iter_<n>.pth`` (the state before the step; ``--resume`` does not pick it by itself) and
    ``nonfinite_iter_<n>.json`` (loss parts and images of every rank) to the work directory.

    Args:
        action: 'stop' or 'skip'.
        max_skips: With 'skip', stop when more steps than that were left out in this run.

    Raises:
        UserError: unknown action; from the training step, when it stops.
    """

    def __init__(self, action: str = 'stop', max_skips: int = 100):
        if action not in ('stop', 'skip'):
            raise UserError(f'NonFiniteLossHook: action={action!r}: choose stop or skip')
        self.action, self.max_skips = action, max_skips
        self.skipped = 0
        self._images: list[str] = []
        self._parts: dict = {}

    def before_train(self, runner) -> None:
        def is_refused(loss: torch.Tensor) -> bool:
            refused = any_rank(not bool(torch.isfinite(loss).all()), loss)
            if refused:
                self._handle(runner)
            return refused

        if guard_steps(runner.optim_wrapper, is_refused):
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            watch_losses(model, self._receive_parts)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self._images = images_of(data_batch)

    def _receive_parts(self, parts: dict) -> None:
        self._parts = parts

    def _handle(self, runner) -> None:
        step = runner.iter + 1
        parts = {name: float(torch.as_tensor(value).detach()) for name, value in self._parts.items()}
        mine = dict(rank=get_rank(), losses={name: repr(value) for name, value in parts.items()}, images=self._images)
        everyone = all_gather_object(mine)
        bad = [each for each in everyone if any(v in ('nan', 'inf', '-inf') for v in each['losses'].values())]
        what = '; '.join(f'{", ".join(f"{k} {v}" for k, v in each["losses"].items() if v in ("nan", "inf", "-inf"))} '
                         f'for {", ".join(each["images"]) or "unnamed images"}' for each in bad)
        if self.action == 'skip' and self.skipped < self.max_skips:
            self.skipped += 1
            runner.message_hub.update_info('skipped_nonfinite_steps', self.skipped)
            runner.logger.log(logging.WARNING, f'iteration {step} left out, number {self.skipped}: {what}')
            return
        stem = f'nonfinite_iter_{step}'
        runner.save_checkpoint(runner.work_dir, f'{stem}.pth', meta=dict(epoch=runner.epoch, iter=runner.iter),
                               by_epoch=False)
        if is_main_process():
            text = json.dumps(dict(iteration=step, ranks=everyone), indent=1).encode()
            write_atomically(os.path.join(runner.work_dir, f'{stem}.json'), lambda file: file.write(text))
        reason = f'more than {self.max_skips} steps were left out; ' if self.action == 'skip' else ''
        raise UserError(f'{reason}the loss at iteration {step} is not a number: {what}. The weights before it and the '
                        f'images are in {os.path.join(runner.work_dir, stem)}.pth and .json; look at the images, lower '
                        'the learning rate, clip gradients, or write default_hooks.nonfinite_loss.action=skip')


def images_of(batch) -> list[str]:
    """Paths (or ids) of the images of a training batch, as far as its data samples name them."""
    samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
    names = []
    for sample in samples if isinstance(samples, Sequence) else ():
        info = getattr(sample, 'metainfo', {})
        names.append(str(info.get('img_path') or info.get('img_id') or info.get('sample_idx') or '?'))
    return names
