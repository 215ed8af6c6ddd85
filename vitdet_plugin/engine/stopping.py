"""Stop training on SIGTERM, Ctrl-C or another stop signal, with a checkpoint of the last step."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.registry import HOOKS
from torch.utils.data import IterableDataset

from vitdet_plugin.compat.file_kinds import has_weight_suffix
from vitdet_plugin.engine.checkpoint_hook import AtomicCheckpointHook
from vitdet_plugin.engine.guards import any_rank
from vitdet_plugin.utils.stop_signals import NAMES, StopSignals, stop_signals


class Stopped(Exception):
    """Raised after training was stopped by a signal and its state was saved; the message contains the path.

    Args:
        message: One line.
        number: The signal.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


@HOOKS.register_module()
class StopHook(Hook):
    """Finish the current step on a stop signal, save, and raise :class:`Stopped`.

    The signals are those of :mod:`vitdet_plugin.utils.stop_signals`: SIGTERM comes from SLURM before preemption, from
    ``kill`` and from torchrun. A signal to one rank stops all ranks. With gradient accumulation the hook waits for the
    next optimizer step. During a validation it waits for the current batch only. A second signal, except SIGHUP, ends
    the process immediately, as does the first one before the first step.

    Args:
        interval: Number of steps after which several ranks ask each other for signals; by default 10 on GPUs, which
            would have to be waited for, and 1 elsewhere.
    """

    priority = 'LOWEST'  # after the regular checkpoint of the same step

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval
        self._is_stopping = False
        self._signals: StopSignals | None = None
        self._context = ExitStack()
        self._common_batches = 0  # of the validation, on every rank

    def before_train(self, runner) -> None:
        self._signals = self._context.enter_context(stop_signals())
        self._signals.situation = ' before the first iteration; nothing was saved'

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if self._signals is not None:
            self._signals.is_deferred = True

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not self._is_stopping and self._is_due(runner):
            self._is_stopping = self._is_asked(runner)
        if not self._is_stopping:
            return
        if hasattr(runner.optim_wrapper, 'should_update') and not runner.optim_wrapper.should_update():
            return
        self._stop(runner, runner.iter + 1)

    def before_val_epoch(self, runner) -> None:
        if self._is_training:
            loader = runner.val_dataloader
            batches = 0 if isinstance(loader.dataset, IterableDataset) else len(loader)
            self._common_batches = _lowest_on_any_rank(batches, runner)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._is_training and batch_idx < self._common_batches and self._is_asked(runner):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # it validates with averaged weights in place of the model's
                    hook.after_val_epoch(runner)
                elif hasattr(hook, 'leave_validation'):
                    hook.leave_validation()
            self._stop(runner, runner.iter)

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._is_training and self._is_asked(runner):
            self._stop(runner, runner.iter)

    def after_train(self, runner) -> None:
        if self._signals is not None:
            self._signals.is_deferred = False
            self._signals.situation = ' after training'
        self._leave()

    @property
    def _is_training(self) -> bool:
        return self._signals is not None and self._signals.is_deferred

    def _is_due(self, runner) -> bool:
        """Whether the ranks exchange after this step if one of them received a signal."""
        if not is_distributed():
            return True
        if self.interval is None:
            self.interval = 10 if next(runner.model.parameters()).is_cuda else 1
        return (runner.iter + 1) % self.interval == 0

    def _is_asked(self, runner) -> bool:
        asked = self._signals is not None and self._signals.received is not None
        return any_rank(asked, next(runner.model.parameters()))

    def _stop(self, runner, finished: int) -> None:
        """Save the state after ``finished`` steps and raise :class:`Stopped`; every rank has to call it."""
        assert self._signals is not None
        like = next(runner.model.parameters())
        number = next((each for each in NAMES if any_rank(self._signals.received == each, like)), signal.SIGTERM)
        hook = next((each for each in runner.hooks if isinstance(each, CheckpointHook)), None)
        with torch.enable_grad():  # not so in a validation; accumulated gradients are saved only where it is enabled
            if isinstance(hook, AtomicCheckpointHook):
                path = hook.save_now(runner, finished)
            else:
                name = f'iter_{finished}.pth'
                meta = dict(epoch=runner.epoch, iter=finished)
                runner.save_checkpoint(runner.work_dir, name, meta=meta, by_epoch=False)
                path = os.path.join(runner.work_dir, name)
        self._leave()
        raise Stopped(f'stopped by {NAMES[number]} after iteration {finished}; saved {path}. '
                      f'Continue with {resume_command()}', number)

    def _leave(self) -> None:
        self._context.close()
        self._signals = None


_RESUME = ('--resume', '--resume-from')


def _lowest_on_any_rank(value: int, runner) -> int:
    if not is_distributed():
        return value
    lowest = torch.tensor([value], device=next(runner.model.parameters()).device)
    all_reduce(lowest, 'min')
    return int(lowest.item())


def resume_command(argv: Sequence[str] | None = None) -> str:
    """Return the command that continues the training which was started with ``argv`` (``sys.argv`` by default).

    With a launcher, and within another program, the whole command is not known.
    """
    program, *words = sys.argv if argv is None else argv
    name = os.path.basename(program)
    start = {'vitdet': 'vitdet', '__main__.py': 'python -m vitdet_plugin', 'train.py': f'python {program}'}.get(name)
    if start is None or is_distributed() or name != 'train.py' and words[:1] != ['train']:
        return 'the same command and --resume'
    kept: list[str] = []
    for before, word in zip(['', *words], words):
        is_path = word == 'auto' or has_weight_suffix(word) or os.path.isdir(word)
        if not (is_path and before in _RESUME) and word.partition('=')[0] not in _RESUME:
            kept.append(word)
    return f'{start} {shlex.join([*kept, "--resume"])}'
