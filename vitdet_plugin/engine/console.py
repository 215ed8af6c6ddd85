"""Terminal output: a filter for mmengine's start-up messages and a progress bar."""

import atexit
import io
import logging
import sys
from typing import Any

# Prefixes of messages of mmengine and mmdet that repeat information from the log file or another line.
_FILE_ONLY = ('System environment:', 'Runtime environment:', 'Config:', 'Hooks will be executed',
              'Distributed training is not used', 'Exp name:', 'Evaluating ', 'bbox_mAP_copypaste',
              'segm_mAP_copypaste', 'Checkpoints will be saved to', 'Loads checkpoint by',
              '"FileClient" will be', '"HardDiskBackend" is', 'Because batch augmentations are enabled')


def console_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:
    """Return the handlers of ``logger`` that write to the terminal."""
    return [handler for handler in logger.handlers
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)]


class ConsoleFilter(logging.Filter):
    """Hide start-up messages (environment, config, hooks) and records marked ``file_only`` from the terminal.

    The log file in the work directory still contains them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage().lstrip('\n- ')
        return not getattr(record, 'file_only', False) and not text.startswith(_FILE_ONLY)


def quieten(logger: logging.Logger) -> None:
    """Add a :class:`ConsoleFilter` to every console handler of ``logger`` that does not have one."""
    for handler in console_handlers(logger):
        if not any(isinstance(each, ConsoleFilter) for each in handler.filters):
            handler.addFilter(ConsoleFilter())


class LogFileStream(io.TextIOBase):
    """A replacement for ``sys.stdout`` that writes to the log file only, for the tables printed by pycocotools."""

    def __init__(self, logger: logging.Logger):
        self._logger = logger

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._logger.info(line, extra={'file_only': True})
        return len(text)


class LiveBar:
    """Progress bars for training and evaluation on a terminal; log lines are printed above them.

    Args:
        logger: Logger whose console handlers print through the bar until it is closed.
    """

    def __init__(self, logger: logging.Logger):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column
        fixed = dict(table_column=Column(no_wrap=True))  # on a narrow terminal only the text wraps
        self._progress = Progress(
            TextColumn('{task.description}', **fixed), BarColumn(bar_width=16), MofNCompleteColumn(**fixed),
            TextColumn('{task.fields[text]}', table_column=Column(ratio=1)), refresh_per_second=4, expand=True,
            redirect_stderr=False)  # error messages stay on stderr
        self._handlers = console_handlers(logger)
        self._tasks: dict = {}
        self._streams: list[Any] | None = None

    def update(self, mode: str, done: int, total: int, text: str | None = None) -> None:
        """Show progress.

        Args:
            mode: 'train', 'val' or 'test'; each has its own bar.
            done: Number of finished iterations.
            total: Number of iterations.
            text: Text shown after the counts; None keeps the previous text.
        """
        self._start()
        if mode not in self._tasks:
            self._tasks[mode] = self._progress.add_task(mode, total=total, text='')
        fields = {} if text is None else {'text': text}
        self._progress.update(self._tasks[mode], completed=done, total=total, **fields)

    def remove(self, mode: str) -> None:
        """Remove the bar of ``mode``."""
        if mode in self._tasks:
            self._progress.remove_task(self._tasks.pop(mode))

    def close(self) -> None:
        """Remove all bars and restore the streams of the console handlers."""
        if self._streams is not None:
            atexit.unregister(self.close)
            self._progress.stop()
            for handler, stream in zip(self._handlers, self._streams):
                handler.setStream(stream)
            self._streams = None
            self._tasks.clear()

    def _start(self) -> None:
        if self._streams is None:
            atexit.register(self.close)  # restores the terminal's cursor if the run fails
            self._progress.start()  # redirects sys.stdout above the bar
            self._streams = [handler.stream for handler in self._handlers]
            for handler in self._handlers:
                handler.setStream(sys.stdout)
