"""What is measured: a combination of backend, precision, threads, batch and input size, and its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

NOISY = 0.15  # spread of the end-to-end times, relative to their median, above which a row is marked


class Seconds(NamedTuple):
    """Duration of the parts of one step."""

    preprocess: float
    model: float
    postprocess: float

    @property
    def total(self) -> float:
        return sum(self)


@dataclass
class Row:
    """One line of the table.

    Attributes:
        backend: ``'pytorch'``, ``'compiled'``, ``'onnxruntime'`` or ``'openvino'``.
        dtype: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        threads: Threads of the backend.
        batch: Images of a step.
        shape: Height and width of the input in pixels; None if it is unknown.
        step: Runs one step and returns its parts; None if the row cannot be measured.
        reason: Why the row was not measured.
        times: One entry for every round.
        accuracy: AP of boxes or top-1, 0 to 1; None without data.
        fault: Why the accuracy could not be measured.
    """

    backend: str
    dtype: str
    threads: int
    batch: int
    shape: tuple[int, int] | None = None
    step: Callable[[], Seconds] | None = field(default=None, repr=False)
    reason: str = ''
    times: list[Seconds] = field(default_factory=list)
    accuracy: float | None = None
    fault: str = ''

    def milliseconds(self, part: str) -> float:
        """Return the median of a part over the rounds, in milliseconds."""
        return 1e3 * float(np.median([getattr(each, part) for each in self.times])) if self.times else math.nan

    @property
    def p90(self) -> float:
        """90th percentile of the end-to-end time in milliseconds."""
        return self._percentile(90)

    @property
    def images_per_second(self) -> float:
        return 1e3 * self.batch / self.milliseconds('total')

    @property
    def spread(self) -> float:
        """Difference of the 90th and 10th percentile of the end-to-end time, relative to the median."""
        return (self._percentile(90) - self._percentile(10)) / self.milliseconds('total')

    @property
    def is_noisy(self) -> bool:
        return self.spread > NOISY

    def _percentile(self, percent: float) -> float:
        return 1e3 * float(np.percentile([each.total for each in self.times], percent)) if self.times else math.nan


def measure(rows: Sequence[Row], rounds: int, warmup: int, on_round: Callable[[int], Any] = lambda done: None) -> None:
    """Run the steps in turn, so that a change of the machine's load affects all rows.

    A row whose step fails is not measured; the first line of the error is its reason.

    Args:
        rows: The rows; the order alternates between rounds.
        rounds: Measured steps of each row.
        warmup: Steps of each row before the first round.
        on_round: Called with the number of rounds that are done, those for warming up included.
    """
    for number in range(warmup + rounds):
        for row in rows if number % 2 == 0 else reversed(rows):
            if row.step is None:
                continue
            try:
                seconds = row.step()
            except Exception as error:  # backends raise exceptions of any type
                row.step, row.reason, row.times = None, first_line(error), []
                continue
            if number >= warmup:
                row.times.append(seconds)
        on_round(number + 1)


def first_line(error: BaseException) -> str:
    """Return the first line of an error, at most 160 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
