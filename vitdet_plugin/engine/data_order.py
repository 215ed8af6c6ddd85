"""Randomness as a function of seed, rank and position, so that a resumed run draws what an uninterrupted one draws.

Nothing has to be saved for it: each training step, and each sample of each batch, starts its random number generators
anew from where it stands in the run. What happens between two steps (evaluation, other hooks), the number of data
workers and what they had fetched in advance have no influence.
"""

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from vitdet_plugin.compat.data_loading import fetch_batches_with, replace_batch_sampler
from vitdet_plugin.engine.data_faults import SkipBudget, read_sample

_STEP, _SAMPLE = 0, 1  # streams that must not coincide


def seed_generators(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators of this process (the current GPU's too) from ``key``."""
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:6])
    seed = int(words[6]) << 32 | int(words[7])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also queue work for a GPU not in use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the generators for training step ``step`` of a rank."""
    seed_generators(seed, rank, _STEP, step)


class Draw(int):
    """An index into a data set that knows its place in the run: ``batch`` counts from the start, ``place`` within."""

    def __new__(cls, index: int, batch: int, place: int):
        draw = super().__new__(cls, index)
        draw.batch, draw.place = batch, place
        return draw

    def __reduce__(self):
        return Draw, (int(self), self.batch, self.place)


class SeededItems:
    """``dataset.__getitems__`` (which torch's loader prefers to ``__getitem__``): seed for each sample, then fetch it.

    Samples that cannot be read are replaced, named and counted, see :class:`SkipBudget`.

    Args:
        dataset: Anything with ``__getitem__``.
        seed: Of the run.
        rank: Of the process that asks for the samples.
    """

    def __init__(self, dataset, seed: int, rank: int):
        self.dataset, self.seed, self.rank = dataset, seed, rank
        self.budget = SkipBudget(len(dataset))

    def __call__(self, indices: Sequence[int]) -> list:
        return [self._fetch(index) for index in indices]

    def _fetch(self, index: int):
        if isinstance(index, Draw):
            seed_generators(self.seed, self.rank, _SAMPLE, index.batch, index.place)
        return read_sample(self.dataset, index, self.budget)


class CountedBatches:
    """A batch sampler that numbers what it hands out and can begin in the middle of a pass without loading data.

    Args:
        batches: The batch sampler to count; its other attributes show through.
    """

    def __init__(self, batches):
        self.batches = batches
        self.next_batch = 0
        self._begun: Iterator | None = None

    def __getattr__(self, name: str):
        if name == 'batches':  # while being unpickled
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list]:
        batches = self._begun if self._begun is not None else iter(self.batches)
        self._begun = None
        for batch in batches:
            yield [Draw(index, self.next_batch, place) if isinstance(index, (int, np.integer)) else index
                   for place, index in enumerate(batch)]
            self.next_batch += 1

    def skip(self, count: int) -> int:
        """Let the next pass begin ``count`` batches later; returns how many there were, if the pass has fewer."""
        self._begun = iter(self.batches)
        return sum(1 for _ in itertools.islice(self._begun, count))


def make_resumable(loader: DataLoader, seed: int, rank: int) -> CountedBatches | None:
    """Number the batches of ``loader``, before its first use, and seed each sample.

    Returns:
        The loader's new batch sampler, or None where nothing can be numbered (iterable data sets, no batches).
    """
    if isinstance(loader.dataset, IterableDataset) or getattr(loader, 'batch_sampler', None) is None:
        return None
    counted = CountedBatches(loader.batch_sampler)
    replace_batch_sampler(loader, counted)
    fetch_batches_with(loader.dataset, SeededItems(loader.dataset, seed, rank))
    return counted
