"""What reaches the terminal: a filter for mmengine's start-up dumps and a live bar."""

import atexit
import io
import logging
import sys
from typing import Any

# Beginnings of mmengine's and mmdet's messages that repeat what the log file or another line says.
_FILE_ONLY = ('System environment:', 'Runtime environment:', 'Config:', 'Hooks will be executed',
              'Distributed training is not used', 'Exp name:', 'Evaluating ', 'bbox_mAP_copypaste',
              'segm_mAP_copypaste', 'Checkpoints will be saved to', 'Loads checkpoint by',
              '"FileClient" will be', '"HardDiskBackend" is', 'Because batch augmentations are enabled')


def console_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:
    return [handler for handler in logger.handlers
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)]


class ConsoleFilter(logging.Filter):
    """Keep start-up dumps (environment, config, hooks) and records marked ``file_only`` off the terminal.

    The log file in the work directory still has all of them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage().lstrip('\n- ')
        return not getattr(record, 'file_only', False) and not text.startswith(_FILE_ONLY)


def quieten(logger: logging.Logger) -> None:
    """Give every console handler of ``logger`` one ``ConsoleFilter``."""
    for handler in console_handlers(logger):
        if not any(isinstance(each, ConsoleFilter) for each in handler.filters):
            handler.addFilter(ConsoleFilter())


class LogFileStream(io.TextIOBase):
    """A stand-in for ``sys.stdout`` whose lines go to the log file only (pycocotools prints its tables)."""

    def __init__(self, logger: logging.Logger):
        self._logger = logger

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._logger.info(line, extra={'file_only': True})
        return len(text)


class LiveBar:
    """One bar for training and one below it for evaluation, on a terminal; log lines appear above them.

    Args:
        logger: Its console handlers are led through the bar while it lives.
    """

    def __init__(self, logger: logging.Logger):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column
        fixed = dict(table_column=Column(no_wrap=True))  # on a narrow terminal the text alone goes on a second line
        self._progress = Progress(
            TextColumn('{task.description}', **fixed), BarColumn(bar_width=16), MofNCompleteColumn(**fixed),
            TextColumn('{task.fields[text]}', table_column=Column(ratio=1)), refresh_per_second=4, expand=True,
            redirect_stderr=False)  # errors stay errors
        self._handlers = console_handlers(logger)
        self._tasks: dict = {}
        self._streams: list[Any] | None = None

    def update(self, mode: str, done: int, total: int, text: str | None = None) -> None:
        """Show ``done`` of ``total`` iterations of ``mode`` (train, val, test) with ``text`` behind them."""
        self._start()
        if mode not in self._tasks:
            self._tasks[mode] = self._progress.add_task(mode, total=total, text='')
        fields = {} if text is None else {'text': text}
        self._progress.update(self._tasks[mode], completed=done, total=total, **fields)

    def remove(self, mode: str) -> None:
        if mode in self._tasks:
            self._progress.remove_task(self._tasks.pop(mode))

    def close(self) -> None:
        if self._streams is not None:
            atexit.unregister(self.close)
            self._progress.stop()
            for handler, stream in zip(self._handlers, self._streams):
                handler.setStream(stream)
            self._streams = None
            self._tasks.clear()

    def _start(self) -> None:
        if self._streams is None:
            atexit.register(self.close)  # a run that fails must not leave the terminal without a cursor
            self._progress.start()  # from here on sys.stdout prints above the bar
            self._streams = [handler.stream for handler in self._handlers]
            for handler in self._handlers:
                handler.setStream(sys.stdout)
