"""Progress outside of training: a bar on a terminal, otherwise a line every few seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar('Item')
_SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], total: int | None, what: str) -> Iterator[Item]:
    """Yield ``items`` and show on standard error how many of ``total`` are done.

    Args:
        items: The items to process.
        total: Their number; None if it is not known.
        what: Name of the items or the work.
    """
    if sys.stderr.isatty():
        yield from _bar(items, total, what)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES and (total is None or done < total):
            shown = now
            left = ''
            if total is None:
                left = f', {done / (now - start):.1f} per second'
            elif done > total / 20:
                left = f', {(now - start) / done * (total - done):.0f} s to go'
            print(f'{what} {done}{"" if total is None else f"/{total}"}{left}', file=sys.stderr, flush=True)


def _bar(items: Iterable[Item], total: int | None, what: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True,
                  redirect_stdout=sys.stdout.isatty()) as progress:  # into a file, output stays output
        yield from progress.track(items, total=total, description=what)
