"""Progress of long steps: a bar with the remaining time on a terminal, otherwise a plain line every few seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from vitdet_plugin.utils.ranks import is_first_rank
from vitdet_plugin.utils.text import format_bytes

Item = TypeVar('Item')
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BEFORE_BAR = 0.4  # short steps show no bar
_EARLY = 1 / 20  # part of the work before which the remaining time is not estimated

_running: list[Progress] = []  # steps that are shown, the innermost last


class Progress:
    """Shows on standard error how much of a step is done.

    A step within one that is counted shows nothing, and neither do the ranks of a distributed run after the first.

    Args:
        what: Name of the items or the work.
        total: Their number; None if it is not known.
        in_bytes: Whether the numbers are bytes.
    """

    def __init__(self, what: str, total: int | None = None, in_bytes: bool = False) -> None:
        self.what, self.total, self._in_bytes = what, total, in_bytes
        outer = _running[-1] if _running else None
        self._is_hidden = not is_first_rank() or outer is not None and outer._is_counted
        self._is_counted = True
        self._bar: Any = None
        if outer is not None and not self._is_hidden:
            outer._remove_bar()
        self._stream = sys.stderr  # printed to even while another stream replaces it
        self._has_bar = _has_terminal()
        self._begin = self._last = time.monotonic()
        self._first: int | None = None
        if not self._is_hidden:
            _running.append(self)

    def update(self, done: int) -> None:
        """Show that ``done`` items or bytes are done, if it is time to."""
        if self._is_hidden:
            return
        now = time.monotonic()
        if self._first is None:
            self._first = done if self._in_bytes else 0  # a download may continue
        if self._has_bar:
            if self._bar is None and now - self._begin >= _SECONDS_BEFORE_BAR:
                self._start_bar()
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=done, total=self.total)
        elif now - self._last >= _SECONDS_BETWEEN_LINES and (self.total is None or done < self.total):
            self._last = now
            print(self._line(done, now - self._begin), file=self._stream, flush=True)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if is_first_rank():
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self._remove_bar()
        if self in _running:
            _running.remove(self)
            if _running and _running[-1]._has_bar and not _running[-1]._is_counted:
                _running[-1]._start_bar()
        self._is_hidden = True

    def _remove_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextlib.contextmanager
    def without_count(self) -> Iterator[None]:
        """Show how long the step takes, until the context ends."""
        self._is_counted = False
        if self._is_hidden:
            yield
        elif self._has_bar:
            self._start_bar()
            yield
        else:
            ended = threading.Event()
            thread = threading.Thread(target=self._print_times, args=(ended,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()

    def _print_times(self, ended: threading.Event) -> None:
        while not ended.wait(_SECONDS_BETWEEN_LINES):
            print(f'{self.what}: {time.monotonic() - self._begin:.0f} s', file=self._stream, flush=True)

    def _line(self, done: int, seconds: float) -> str:
        rate = (done - (self._first or 0)) / max(seconds, 1e-9)
        per_second = f'{format_bytes(rate)}/s' if self._in_bytes else f'{rate:.1f} per second'
        count = format_bytes(done) if self._in_bytes else str(done)
        if self.total is None:
            return f'{self.what} {count}, {per_second}'
        all_of_them = f' of {format_bytes(self.total)}, {per_second}' if self._in_bytes else f'/{self.total}'
        left = f', {_duration((self.total - done) / rate)} to go' if rate and done > _EARLY * self.total else ''
        return f'{self.what} {count}{all_of_them}{left}'

    def _start_bar(self) -> None:
        from rich import progress as bars
        from rich.console import Console
        columns: list[Any] = [bars.TextColumn('{task.description}', markup=False), bars.BarColumn()]
        if not self._is_counted:
            columns = [bars.SpinnerColumn(), columns[0], bars.TimeElapsedColumn()]
        elif self._in_bytes:
            columns += [bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn()]
        else:
            columns += [bars.MofNCompleteColumn(), bars.TimeRemainingColumn(elapsed_when_finished=True)]
        # into a file, output stays output
        self._bar = bars.Progress(*columns, console=Console(file=self._stream), transient=True,
                                  redirect_stdout=sys.stdout.isatty())
        self._bar.add_task(self.what, total=self.total, completed=self._first or 0)
        self._bar.start()


def track(items: Iterable[Item], total: int | None, what: str) -> Iterator[Item]:
    """Yield ``items`` and show on standard error how many of ``total`` are done.

    Args:
        items: The items to process.
        total: Their number; None if it is not known.
        what: Name of the items or the work.
    """
    progress = Progress(what, total)
    try:
        for done, item in enumerate(items, 1):
            yield item
            progress.update(done)
    finally:
        progress.close()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show on standard error that a step without parts is running, and for how long.

    Args:
        what: What is done, such as ``'writing the ONNX file'``.
    """
    progress = Progress(what)
    try:
        with progress.without_count():
            yield
    finally:
        progress.close()


def _has_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get('TERM', 'dumb') != 'dumb'


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 7200 else f'{seconds / 3600:.1f} h'
