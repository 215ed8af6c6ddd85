"""Samples that cannot be read: a training replaces a few and reports each; an evaluation stops at the first."""

import multiprocessing
import os
import sys
import traceback
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from vitdet_plugin.datasets.unusual_images import describe_unreadable
from vitdet_plugin.errors import UserError

MOST_SKIPPED = 0.01  # share of the samples
_TRIES = 10


class SkipBudget:
    """Count drawn and skipped samples over all data workers of a rank.

    Args:
        size: Number of samples of the data set. Shares refer to at least this many samples.
    """

    def __init__(self, size: int):
        self.size = size
        self._drawn, self._skipped = multiprocessing.Value('q', 0), multiprocessing.Value('q', 0)

    def __deepcopy__(self, memo) -> 'SkipBudget':
        return self  # the counters are shared

    def draw(self) -> None:
        """Count a sample that is read."""
        with self._drawn:
            self._drawn.value += 1

    def skip(self, what: str, advice: str) -> None:
        """Count and print a skipped sample.

        Args:
            what: Description of the sample and the error.
            advice: What the user can do.

        Raises:
            UserError: More than 1 % of the samples (of those drawn, and of the data set) were skipped.
        """
        with self._skipped:
            self._skipped.value += 1
            skipped = self._skipped.value
        print(f'warning: sample left out, number {skipped}: {what}', file=sys.stderr, flush=True)
        if skipped > MOST_SKIPPED * max(self._drawn.value, self.size):
            raise UserError(f'{skipped} samples could not be read, more than {MOST_SKIPPED:.0%}; the last: {what}; '
                            f'{advice}')

    @property
    def skipped(self) -> int:
        """Number of skipped samples."""
        return self._skipped.value


class NamedItems:
    """Replacement for ``dataset.__getitems__`` whose errors name the file and id of the sample."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __call__(self, indices) -> list:
        return [read_sample(self.dataset, index) for index in indices]


def read_sample(dataset, index: int, budget: SkipBudget | None = None) -> Any:
    """Return ``dataset[index]`` or, with a budget, another random sample if that one cannot be read.

    Args:
        dataset: Data set of mmengine.
        index: Index of the sample.
        budget: Counter and limit of replaced samples. Replacements are drawn from NumPy's global generator.

    Raises:
        UserError: The sample cannot be read, and there is no budget, the budget is exceeded or the replacements cannot
            be read either. The message names file and id.
    """
    if budget is not None:
        budget.draw()
    for left in reversed(range(_TRIES)):
        try:
            return fetch(dataset, index)
        except UserError:
            raise
        except Exception as error:  # decoders and transforms raise almost anything on broken data
            reason, advice = _explain(dataset, index, error)
            what = f'{describe(dataset, index)}: {reason}'
            if budget is None or not left:
                raise UserError(f'{what}; {advice}') from error
            budget.skip(what, advice)
            index = int(np.random.randint(len(dataset)))


def _explain(dataset, index: int, error: Exception) -> tuple[str, str]:
    """Return why a sample cannot be read (the fault of its image file, or the error of a transform), and advice."""
    try:
        path = dataset.get_data_info(int(index)).get('img_path')
    except Exception:
        path = None
    fault = describe_unreadable(path) if isinstance(path, str) and os.path.exists(path) else ''
    text = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
    transform = _failing_transform(error)
    if fault or transform is None or transform.startswith('Load'):
        return fault or text, "'vitdet check' lists every problem of a data set"
    return (f'{transform} failed with {text}',
            f'check the arguments of {transform} and what it gets from the steps before')


def _failing_transform(error: Exception) -> str | None:
    """Return the class of the innermost transform that an error passed through."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get('self')
        if isinstance(owner, BaseTransform) and frame.f_code.co_name == 'transform':
            found = type(owner).__name__
    return found


def fetch(dataset, index: int) -> Any:
    """Return one sample by the methods of the class, without the ``__getitems__`` that is set on the instance."""
    of_class = getattr(type(dataset), '__getitems__', None)
    return dataset[index] if of_class is None else of_class(dataset, [index])[0]


def describe(dataset, index: int) -> str:
    """Return file and id of a sample, as far as the data set provides them."""
    try:
        info = dataset.get_data_info(int(index))
        return f'{info.get("img_path", "sample")} (id {info.get("img_id", info.get("sample_idx", int(index)))})'
    except Exception:
        return f'sample {int(index)}'
