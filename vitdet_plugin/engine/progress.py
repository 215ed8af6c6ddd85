"""Progress of training and evaluation: bars on a terminal, plain lines in a log."""

import collections
import datetime
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.fileio import dump
from mmengine.hooks import IterTimerHook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

from vitdet_plugin.engine.console import LiveBar, LogFileStream, quieten


@HOOKS.register_module()
class ProgressHook(LoggerHook):
    """``LoggerHook`` with compact console lines: ETA, speed, learning rate, memory and loss terms.

    Use it as the logger hook: ``default_hooks=dict(logger=dict(type='ProgressHook', interval=50))``; the train and test
    commands do so automatically. The scalars for ``vis_data/scalars.json``, TensorBoard and other backends are those of
    ``LoggerHook``, plus ``memory`` (MB) on a CPU. Validation scalars of an iteration-based loop use the iteration as
    their step. Only rank 0 prints.

    Args:
        interval: Iterations between two log lines.
        live: Show bars instead of lines on the terminal; None enables them if standard output is a terminal. The lines
            are always written to the log file.
        **kwargs: Other arguments of ``LoggerHook``.
    """

    def __init__(self, interval: int = 10, live: bool | None = None, **kwargs: Any):
        super().__init__(interval=interval, **kwargs)
        self._live = live
        self._bar: LiveBar | None = None
        self._stdout = None  # the original stream while sys.stdout is redirected to the log file

    def before_run(self, runner) -> None:
        super().before_run(runner)
        quieten(runner.logger)
        live = sys.stdout.isatty() if self._live is None else self._live
        if live and runner.rank == 0:
            self._bar = LiveBar(runner.logger)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        done = runner.iter + 1
        due = self.every_n_inner_iters(batch_idx, self.interval) or done == runner.max_iters
        short_epoch = len(runner.train_dataloader) <= self.interval
        if short_epoch or not self.ignore_last:
            due = due or self.end_of_epoch(runner.train_dataloader, batch_idx)
        text = None
        if due or done % 10 == 1 and self._bar:
            scalars, _ = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
            scalars.setdefault('memory', process_memory_mb())
            text = describe_training(scalars, runner.message_hub.runtime_info.get('eta'), highest_lr(runner))
        if self._bar:
            self._bar.update('train', done, runner.max_iters, text)
        if due:
            width = len(str(runner.max_iters))
            epoch = '' if _is_iter_based(runner) else f'epoch {runner.epoch + 1}/{runner.max_epochs}  '
            self._write_line(runner, f'train {done:>{width}}/{runner.max_iters}  {epoch}{text}')
            runner.visualizer.add_scalars(scalars, step=done, file_path=self.json_log_path)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        total = len(runner.val_dataloader)
        self._after_eval_iter(runner, batch_idx, 'val', total)
        if batch_idx + 1 == total and runner._train_loop is not None:
            self._stdout, sys.stdout = sys.stdout, LogFileStream(runner.logger)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        self._after_eval_iter(runner, batch_idx, 'test', len(runner.test_dataloader))

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        scalars, _ = runner.log_processor.get_log_after_epoch(runner, len(runner.val_dataloader), 'val')
        step, where = _training_position(runner)
        self._finish_eval(runner, 'val', f'val{where}  {describe_metrics(scalars)}')
        runner.visualizer.add_scalars(scalars, step=step, file_path=self.json_log_path)

    def after_val(self, runner) -> None:
        restart_timer(runner)

    def leave_validation(self) -> None:
        """Restore standard output and remove the bar of a validation that ends early."""
        self._restore_stdout()
        if self._bar:
            self._bar.close()

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        scalars, _ = runner.log_processor.get_log_after_epoch(
            runner, len(runner.test_dataloader), 'test', with_non_scalar=True)
        self._finish_eval(runner, 'test', f'test  {describe_metrics(scalars)}')
        if runner.rank == 0:
            dump(self._process_tags(scalars), os.path.join(runner.log_dir, self.json_log_path))

    def after_run(self, runner) -> None:
        if self._bar:
            self._bar.close()
        super().after_run(runner)

    def _after_eval_iter(self, runner, batch_idx: int, mode: str, total: int) -> None:
        done = batch_idx + 1
        due = self.every_n_inner_iters(batch_idx, self.interval)
        if not (due or self._bar):
            return
        speed = runner.message_hub.get_scalar(f'{mode}/time').mean(self.interval)
        text = f'eta {_duration(runner.message_hub.get_info("eta"))}  {_speed(speed)}  mem {_memory()}'
        if self._bar:
            self._bar.update(mode, done, total, text)
        if due:
            self._write_line(runner, f'{mode} {done:>{len(str(total))}}/{total}  {text}')

    def _restore_stdout(self) -> None:
        if self._stdout is not None:
            sys.stdout, self._stdout = self._stdout, None

    def _finish_eval(self, runner, mode: str, line: str) -> None:
        self._restore_stdout()
        if self._bar:
            self._bar.remove(mode)
        runner.logger.info(line)

    def _write_line(self, runner, line: str) -> None:
        """Write a line to the log file, and to the terminal if no bar is shown."""
        runner.logger.info(line, extra={'file_only': self._bar is not None})


def restart_timer(runner) -> None:
    """Begin to measure the next iteration now, so that an evaluation or a checkpoint is not counted as data loading."""
    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook):
            hook.t = time.time()


def describe_training(scalars: dict[str, float], eta: float | None, lr: float | None) -> str:
    """Format the state of training as one line.

    Args:
        scalars: Smoothed ``time`` and ``data_time`` (s), ``memory`` (MB), ``loss`` and its terms, ``grad_norm``.
        eta: Remaining time in seconds, if known.
        lr: Highest learning rate of all parameter groups.
    """
    words: list[str] = []
    if eta is not None:
        words.append(f'eta {_duration(eta)}')
    if 'time' in scalars:
        words.append(f'{_speed(scalars["time"])} (data {scalars.get("data_time", 0.):.2f})')
    if lr is not None:
        words.append(f'lr {lr:.2e}')
    words.append(f'mem {_memory(scalars.get("memory"))}')
    if 'grad_norm' in scalars:
        words.append(f'grad {scalars["grad_norm"]:.2f}')
    parts = [f'{name[5:] if name.startswith("loss_") else name.replace(".loss_", ".")} {value:.4f}'
             for name, value in scalars.items() if 'loss' in name and name != 'loss']
    loss = f'loss {scalars["loss"]:.4f}' if 'loss' in scalars else ''
    words.append(f'{loss} ({", ".join(parts)})' if loss and len(parts) > 1 else loss or ', '.join(parts))
    return '  '.join(word for word in words if word)


def describe_metrics(scalars: dict[str, Any]) -> str:
    """Format the scalars of an evaluation as ``bbox_mAP 0.4120  bbox_mAP_50 0.6210 …``.

    Times are omitted, as are values of -1, which COCO reports if there are no objects of that size. Names of several
    evaluators or data sets keep their prefixes where they would be equal without.
    """
    shown = {name: value for name, value in scalars.items()
             if isinstance(value, (int, float)) and value != -1 and name.split('/')[-1] not in ('time', 'data_time')}
    counts = collections.Counter(name.split('/')[-1] for name in shown)
    return '  '.join(f'{short if counts[short := name.split("/")[-1]] == 1 else name} {value:.4f}'
                     for name, value in shown.items()) or 'no metrics'


def highest_lr(runner) -> float | None:
    """Return the highest learning rate of all parameter groups; with layer-wise decay, that of the heads."""
    rates = [rate for name, values in runner.optim_wrapper.get_lr().items() if name.endswith('lr') for rate in values]
    return max(rates, default=None)


def process_memory_mb() -> int:
    """Return the peak GPU memory of tensors, or the resident memory of this process without data workers, in MB."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() / 2**20)
    try:
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 2**20
    except OSError:  # no /proc: use the peak memory, which is in bytes on macOS and in KB elsewhere
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == 'darwin' else 2**10)


def _training_position(runner) -> tuple:
    """Return the step of the scalars and the text of an evaluation during training, without building the loop."""
    if isinstance(runner._train_loop, dict) or runner._train_loop is None:
        return 0, ''
    if _is_iter_based(runner):
        return runner.iter, f' @ iteration {runner.iter}'
    return runner.epoch, f' @ epoch {runner.epoch}'


def _is_iter_based(runner) -> bool:
    return isinstance(runner._train_loop, IterBasedTrainLoop)


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


def _speed(seconds: float) -> str:
    return f'{seconds:.2f} s/it' if seconds >= 0.1 else f'{seconds * 1000:.0f} ms/it'


def _memory(megabytes: float | None = None) -> str:
    megabytes = process_memory_mb() if megabytes is None else megabytes
    return f'{megabytes / 1024:.1f} GB' if megabytes >= 1024 else f'{megabytes:.0f} MB'
