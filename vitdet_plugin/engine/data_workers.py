"""End the processes that load data when a run ends, and not when Python frees the runner later."""

import contextlib
from collections.abc import Iterator
from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader


class RecordedLoaders:
    """Part of a runner that records its data loaders, those that hooks build included."""

    def build_dataloader(self, *args, **kwargs) -> DataLoader:
        loader = super().build_dataloader(*args, **kwargs)
        vars(self).setdefault('recorded_loaders', []).append(loader)
        return loader


@contextlib.contextmanager
def ended_data_workers(runner: Runner) -> Iterator[None]:
    """End the worker processes of all loaders of ``runner`` after this block; a loader used again starts new ones.

    A runner that is no longer used is freed by the garbage collector, which closes the queues of the workers before it
    asks these to end: torch then waits for each of them for 5 seconds. Until then they also use memory.
    """
    try:
        yield
    finally:
        holders: list[Any] = list(vars(runner).get('recorded_loaders', ()))
        holders.append(getattr(vars(runner).get('_train_loop'), 'dataloader_iterator', None))  # by iterations
        for holder in holders:
            iterator = getattr(holder, '_iterator', None)
            if hasattr(iterator, '_shutdown_workers'):
                iterator._shutdown_workers()
                holder._iterator = None
