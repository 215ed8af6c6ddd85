"""Progress of a download, as one changing line on a terminal and as few lines in a log."""

from __future__ import annotations

import os
import sys
import time

_LOG_SECONDS = 15.
_SCREEN_SECONDS = .2


class TransferProgress:
    """Prints to standard error how much of a file has arrived.

    Args:
        name: File name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_screen = os.isatty(2)
        self._total: int | None = None
        self._first = 0
        self._began = self._printed = time.monotonic()
        self._started = False

    def start(self, done: int, total: int | None) -> None:
        """Announce a download that has ``done`` of ``total`` bytes already; None if the total is not known."""
        self._total = total
        if self._started:
            return
        self._started, self._first = True, done
        self._began = self._printed = time.monotonic()
        size = f' ({format_bytes(total)})' if total else ''
        self.say(f'downloading {self._name}{size}' + (f', continuing at {format_bytes(done)}' if done else ''))

    def update(self, done: int) -> None:
        """Print the progress, if it is time to."""
        now = time.monotonic()
        if now - self._printed < (_SCREEN_SECONDS if self._is_screen else _LOG_SECONDS):
            return
        self._printed = now
        part = f' of {format_bytes(self._total)} ({100 * done // self._total} %)' if self._total else ''
        rate = (done - self._first) / max(now - self._began, 1e-9)
        line = f'  {self._name}: {format_bytes(done)}{part}, {format_bytes(rate)}/s'
        print(f'\r{line:<78}' if self._is_screen else line, end='' if self._is_screen else '\n', file=sys.stderr,
              flush=True)

    def finish(self, done: int) -> None:
        """Announce the end of a download."""
        if self._started:
            self.say(f'downloaded {self._name}: {format_bytes(done)} in {time.monotonic() - self._began:.0f} s')

    @staticmethod
    def say(line: str) -> None:
        """Print a line of its own."""
        print(f'\r{line:<78}' if os.isatty(2) else line, file=sys.stderr, flush=True)


def format_bytes(count: float) -> str:
    """Return a number of bytes such as ``88.3 MB`` (10^6)."""
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= factor:
            return f'{count / factor:.1f} {unit}'
    return f'{count:.0f} bytes'
