"""Progress outside of training: a bar on a terminal, otherwise a line every few seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar('Item')
_SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield ``items`` and show on standard error how many of ``total`` are done.

    Args:
        items: The items to process.
        total: Their number.
        what: Name of the items or the work.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar
        yield from bar(items, description=what, total=total, console=Console(stderr=True), transient=True)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES and done < total:
            shown = now
            left = f', {(now - start) / done * (total - done):.0f} s to go' if done > total / 20 else ''
            print(f'{what} {done}/{total}{left}', file=sys.stderr, flush=True)
