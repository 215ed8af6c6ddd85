"""Change how one data loader of torch fetches samples and orders batches, after mmengine has built it."""

from collections.abc import Callable, Sequence

from torch.utils.data import DataLoader, Dataset

from vitdet_plugin.compat.patching import Patch

_ITEMS = Patch('torch.utils.data.Dataset', '__getitems__', upstream='torch >= 2.0',
               why='samples are seeded by their position, and unreadable ones are named (one data set)')
_BATCHES = Patch('torch.utils.data.DataLoader', 'batch_sampler', upstream='torch >= 2.0',
                 why='batches are numbered for exact resume; torch refuses assignment after construction (one loader)')


def fetch_batches_with(dataset: Dataset, fetch: Callable[[Sequence[int]], list]) -> None:
    """Let torch's loaders read samples of ``dataset`` by ``fetch``, instead of an earlier function.

    Args:
        dataset: Receives ``fetch`` as its ``__getitems__``, which loaders prefer to ``__getitem__``.
        fetch: Returns the samples of a sequence of indices. Pickled with the data set for spawned workers.
    """
    dataset.__getitems__ = _ITEMS.mark(fetch)
    _ITEMS.installed = True


def replace_batch_sampler(loader: DataLoader, batch_sampler) -> None:
    """Set ``loader.batch_sampler``, before the first use of ``loader``.

    Raises:
        UserError: torch keeps the batch sampler elsewhere.
    """
    if 'batch_sampler' not in vars(loader):
        raise _BATCHES.moved()
    vars(loader)['batch_sampler'] = _BATCHES.mark(batch_sampler)
    _BATCHES.installed = True
