"""Deterministic random numbers that depend only on the seed, the rank and the position in the run.

A resumed run therefore uses the same random numbers as an uninterrupted one, and no generator state is saved: each
training step and each sample of each batch seeds the generators from its position. Code that runs between steps
(evaluation, other hooks), the number of data workers and prefetched batches have no influence.
"""

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from vitdet_plugin.compat.data_loading import fetch_batches_with, replace_batch_sampler
from vitdet_plugin.engine.data_faults import SkipBudget, read_sample

_STEP, _SAMPLE = 0, 1  # separate random streams


def seed_generators(*key: int) -> None:
    """Seed the generators of Python, NumPy and torch (CPU and current GPU) in this process from ``key``."""
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:6])
    seed = int(words[6]) << 32 | int(words[7])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also queue a call for an unused GPU
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the generators for training step ``step`` on rank ``rank``."""
    seed_generators(seed, rank, _STEP, step)


class Draw(int):
    """A dataset index with its position in the run.

    Attributes:
        batch: Number of the batch, counted from the start of the run.
        position: Position within the batch.
    """

    def __new__(cls, index: int, batch: int, position: int):
        draw = super().__new__(cls, index)
        draw.batch, draw.position = batch, position
        return draw

    def __reduce__(self):
        return Draw, (int(self), self.batch, self.position)


class SeededItems:
    """Implementation of ``dataset.__getitems__`` that seeds the generators before each sample is loaded.

    torch's ``DataLoader`` calls ``__getitems__`` instead of ``__getitem__`` if it exists. Samples that cannot be read
    are replaced, reported and counted, see :class:`SkipBudget`.

    Args:
        dataset: A map-style dataset.
        seed: Seed of the run.
        rank: Rank of this process.
    """

    def __init__(self, dataset, seed: int, rank: int):
        self.dataset, self.seed, self.rank = dataset, seed, rank
        self.budget = SkipBudget(len(dataset))

    def __call__(self, indices: Sequence[int]) -> list:
        return [self._fetch(index) for index in indices]

    def _fetch(self, index: int):
        if isinstance(index, Draw):
            seed_generators(self.seed, self.rank, _SAMPLE, index.batch, index.position)
        return read_sample(self.dataset, index, self.budget)


class CountedBatches:
    """A batch sampler that numbers its batches and can skip batches without loading data.

    Args:
        batches: The batch sampler to wrap; its other attributes stay accessible.
    """

    def __init__(self, batches):
        self.batches = batches
        self.next_batch = 0
        self._begun: Iterator | None = None

    def __getattr__(self, name: str):
        if name == 'batches':  # not yet set while unpickling
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list]:
        batches = self._begun if self._begun is not None else iter(self.batches)
        self._begun = None
        for batch in batches:
            yield [Draw(index, self.next_batch, position) if isinstance(index, (int, np.integer)) else index
                   for position, index in enumerate(batch)]
            self.next_batch += 1

    def skip(self, count: int) -> int:
        """Skip ``count`` batches of the next pass; returns the number skipped, lower if the pass is shorter."""
        self._begun = iter(self.batches)
        return sum(1 for _ in itertools.islice(self._begun, count))


def make_resumable(loader: DataLoader, seed: int, rank: int) -> CountedBatches | None:
    """Number the batches of ``loader`` and seed the generators for each sample; call it before the loader is used.

    Returns:
        The new batch sampler of the loader, or None for an iterable dataset or a loader without batches, whose batches
        cannot be numbered.
    """
    if isinstance(loader.dataset, IterableDataset) or getattr(loader, 'batch_sampler', None) is None:
        return None
    counted = CountedBatches(loader.batch_sampler)
    replace_batch_sampler(loader, counted)
    fetch_batches_with(loader.dataset, SeededItems(loader.dataset, seed, rank))
    return counted
