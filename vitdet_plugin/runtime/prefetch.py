"""Read ahead in a thread, so that images are decoded while the model computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar('Item')
_PATIENCE = 0.5  # seconds without an item after which the reader is told that it waits


class Idle:
    """Yielded by :func:`prefetch` while no item is ready, so that what has been collected can be processed."""


IDLE = Idle()


def prefetch(items: Iterable[Item], depth: int) -> Iterator[Item | Idle]:
    """Yield ``items``, produced by a thread, and :data:`IDLE` whenever the next one takes long.

    Args:
        items: They are iterated over in the thread; an exception is raised here after the items before it.
        depth: Most items that are ready and not yet yielded.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put((kind, value), timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put('item', item):
                    return
            put('end', None)
        except BaseException as error:  # raised again by the reader
            put('error', error)

    thread = threading.Thread(target=read, name='vitdet-prefetch', daemon=True)
    thread.start()
    try:
        while True:
            try:
                kind, value = ready.get(timeout=_PATIENCE)
            except queue.Empty:
                yield IDLE
                continue
            if kind == 'end':
                return
            if kind == 'error':
                raise value
            yield value
    finally:
        stopped.set()
