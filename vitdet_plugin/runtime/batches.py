"""Batches of inputs of equal shape out of a stream, with the results in the order of the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from .prefetch import Idle

_LOOKAHEAD = 4  # batches within which inputs of equal shape are collected


def in_batches(items: Iterable[Any], key: Callable[[Any], Hashable | None], size: Callable[[Hashable], int],
               predict: Callable[[Sequence[Any]], Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield every item and its result, in the order of ``items``.

    Args:
        items: Inputs; an :class:`Idle` among them lets everything that was collected be predicted.
        key: Returns what the items of a batch have in common; None for an item that is not to be predicted, whose
            result is None.
        size: Number of items of a batch, by key.
        predict: Returns the results of a batch.
    """
    waiting: deque[list[Any]] = deque()  # [item, key, result, is done] in the order of the stream
    groups: dict[Hashable, list[list[Any]]] = {}

    def run(group_key: Hashable) -> None:
        group = groups.pop(group_key)
        for entry, result in zip(group, predict([entry[0] for entry in group]), strict=True):
            entry[2:] = result, True

    def finished() -> Iterator[tuple[Any, Any]]:
        while waiting and waiting[0][3]:
            entry = waiting.popleft()
            yield entry[0], entry[2]

    for item in items:
        if isinstance(item, Idle):
            for group_key in list(groups):
                run(group_key)
                yield from finished()
            continue
        group_key = key(item)
        entry = [item, group_key, None, group_key is None]
        waiting.append(entry)
        if group_key is not None:
            group = groups.setdefault(group_key, [])
            group.append(entry)
            if len(group) >= size(group_key):
                run(group_key)
        first = waiting[0]
        if not first[3] and len(waiting) >= _LOOKAHEAD * size(first[1]):
            run(first[1])
        yield from finished()
    for group_key in list(groups):
        run(group_key)
        yield from finished()
