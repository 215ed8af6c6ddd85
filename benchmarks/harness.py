"""Shared by the benchmarks: interleaved timing, peak memory in a separate process, and the row they report.

A benchmark module defines ``rows(quick)``, a generator of ``Row`` (or None for a row that is not selected); most
of them come from ``compare``::

    def ours(size): ...          # build model and inputs, return a function without arguments: one step
    def reference(size): ...     # the same for the reference; its step returns the same values

    def rows(quick):
        size = 256 if quick else 1024
        yield compare('global block, inference', 'materialized attention', partial(ours, size),
                      partial(reference, size), tolerance=1e-4, time_goal=2.7, memory_goal=15)

The builders must be module-level functions or ``functools.partial`` of them, because the memory of each side is
measured in another process. Ratios are reference / ours: 2.7 means 2.7 times as fast, or 1/2.7 of the extra memory.

Both wall time and CPU time of the process, summed over its threads, are measured; goals apply to the clock chosen by
``use_clock``. A row is noisy if the middle half of its ratios spreads over more than 15 % of their median.
"""

import ctypes
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

Step = Callable[[], Any]
Builder = Callable[[], Step]

CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
NOISY = 0.15  #: relative spread of the ratios from which a row is marked
_PAIRS = 5  # at least, unless a row would take longer than _ROW_SECONDS
_FEW_PAIRS = 2
_ROW_SECONDS = 20.0
_LONG_PAIR = 10.0  # seconds from which the first pair counts, instead of being a warm-up
_clock = 'wall'
_selected: list[str] = []


def use_clock(name: str) -> None:
    """Apply goals to ``wall`` time (the default), or to ``cpu`` time of this process, for a busy machine."""
    global _clock
    _clock = name


def select_rows(texts: Sequence[str]) -> None:
    """Measure only rows whose path contains one of these texts; all rows if there are none."""
    _selected[:] = texts


def is_selected(path: str) -> bool:
    """Whether the row with this path is selected."""
    return not _selected or any(text in path for text in _selected)


@dataclass
class Timing:
    """Seconds of both sides in pairs of runs, one entry for each clock of ``CLOCKS``.

    Attributes:
        ours, reference: median seconds of a step.
        ratios: median over the pairs of reference / ours.
        spreads: range of the middle half of the ratios / their median.
        pairs: number of pairs.
    """

    ours: dict[str, float]
    reference: dict[str, float]
    ratios: dict[str, float]
    spreads: dict[str, float]
    pairs: int

    @property
    def ratio(self) -> float:
        """The ratio to which goals apply."""
        return self.ratios[_clock]

    @property
    def spread(self) -> float:
        """The spread of the ratios to which goals apply."""
        return self.spreads[_clock]

    @property
    def is_noisy(self) -> bool:
        return self.spread > NOISY

    def __str__(self) -> str:
        seconds = f'{_seconds(self.ours[_clock])} against {_seconds(self.reference[_clock])}'
        return f'{seconds}, {self.pairs} pair{"s"[:self.pairs - 1]}{", noisy" if self.is_noisy else ""}'


@dataclass
class Row:
    """One line of the table.

    Attributes:
        path: what is measured.
        reference: what it is compared with.
        time_ratio: reference time / our time by the chosen clock; None if not measured.
        memory_ratio: extra peak memory of the reference / ours; None if not measured.
        time_goal, memory_goal: target ratios; None if there is no target.
        difference: largest difference of the two results.
        tolerance: largest difference at which the results count as equal.
        note: absolute values or a remark.
        timing: times by both clocks; None if not measured.
    """

    path: str
    reference: str
    time_ratio: float | None
    memory_ratio: float | None
    time_goal: float | None = None
    memory_goal: float | None = None
    difference: float = 0.0
    tolerance: float = 0.0
    note: str = ''
    timing: Timing | None = None

    @property
    def same_numbers(self) -> bool:
        return bool(self.difference <= self.tolerance)  # a NumPy bool is not JSON

    @property
    def reached(self) -> bool | None:
        """Whether every goal is reached with equal results; None if the row has no goal."""
        goals = [(self.time_ratio, self.time_goal), (self.memory_ratio, self.memory_goal)]
        set_goals = [(ratio, goal) for ratio, goal in goals if goal is not None]
        if not set_goals:
            return None
        return self.same_numbers and all(ratio is not None and ratio >= goal for ratio, goal in set_goals)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields with the times of each clock as separate entries, such as ``cpu_ratio``."""
        fields = {key: value for key, value in asdict(self).items() if key != 'timing'}
        for clock in CLOCKS:
            for name in ('ratio', 'spread', 'ours', 'reference'):
                field = f'{name}s' if name in ('ratio', 'spread') else name
                fields[f'{clock}_{name}'] = None if self.timing is None else getattr(self.timing, field)[clock]
        fields |= {'pairs': self.timing and self.timing.pairs, 'noisy': self.timing and self.timing.is_noisy}
        return {**fields, 'same_numbers': self.same_numbers, 'reached': self.reached}


def left_out(path: str, reference: str, reason: str) -> Row | None:
    """Return a row without measurements that gives the reason; None if the row is not selected."""
    return Row(path, reference, None, None, note=f'left out: {reason}') if is_selected(path) else None


def compare(path: str, reference_form: str, ours: Builder, reference: Builder, *, tolerance: float,
            check: Callable[[Any, Any], float] | None = None, time_goal: float | None = None,
            memory_goal: float | None = None, repeats: int = 5, memory: bool = True, note: str = '') -> Row | None:
    """Compare results, time and memory of both sides; return None, without running them, if the row is not selected.

    Args:
        path, reference_form: texts for the table.
        ours, reference: builders, see the docstring of the module.
        tolerance: largest difference at which the results count as equal.
        check: (our result, reference result) -> difference; ``largest_difference`` by default.
        time_goal, memory_goal: target ratios.
        repeats: see :func:`interleave`.
        memory: whether to measure memory.
        note: remark for the table, after the absolute values.
    """
    if not is_selected(path):
        return None
    our_step, reference_step = ours(), reference()
    timing, results = interleave(our_step, reference_step, repeats)
    difference = (check or largest_difference)(*results)
    del our_step, reference_step, results
    gc.collect()
    remarks = [str(timing)]
    memory_ratio = None
    if memory:
        our_bytes, reference_bytes = peak_extra_memory(ours, reference)
        memory_ratio = reference_bytes / max(our_bytes, 1)
        remarks.append(f'+{our_bytes / 2**20:.0f} against +{reference_bytes / 2**20:.0f} MiB')
    if note:
        remarks.append(note)
    return Row(path, reference_form, timing.ratio, memory_ratio, time_goal, memory_goal, float(difference), tolerance,
               '; '.join(remarks), timing)


def interleave(ours: Step, reference: Step, repeats: int = _PAIRS) -> tuple[Timing, list]:
    """Time two steps in turn (ab, ba, ab …), so that changes in machine load affect both.

    A first pair warms up and is not counted, unless it takes 10 seconds or more.

    Args:
        ours, reference: the steps.
        repeats: pairs of runs, also the maximum. There are fewer, but at least two, if they would take longer than 20
            seconds; never fewer than 5 if a pair takes less than 4 seconds.

    Returns:
        The times, and the results of both steps in the first pair, ours and the reference's.
    """
    seconds: dict[str, dict[str, list[float]]] = {side: {clock: [] for clock in CLOCKS}
                                                  for side in ('ours', 'reference')}
    sides = [('ours', ours), ('reference', reference)]

    def run(side: str, step: Step) -> Any:
        starts = {clock: read() for clock, read in CLOCKS.items()}
        result = step()
        for clock, read in CLOCKS.items():
            seconds[side][clock].append(read() - starts[clock])
        return result

    results = [run(side, step) for side, step in sides]
    first = sum(seconds[side]['wall'][0] for side in seconds)
    pairs, done = _affordable(repeats, first), 1
    if first < _LONG_PAIR:
        done = 0
        for clocks in seconds.values():
            for values in clocks.values():
                values.clear()
    for turn in range(done, pairs):
        for side, step in sides if turn % 2 == 0 else reversed(sides):
            run(side, step)
    medians = {side: {clock: statistics.median(values) for clock, values in clocks.items()}
               for side, clocks in seconds.items()}
    ratios = {clock: [r / max(o, 1e-9) for o, r in zip(seconds['ours'][clock], seconds['reference'][clock])]
              for clock in CLOCKS}
    middle = {clock: statistics.median(values) for clock, values in ratios.items()}
    spreads = {clock: _middle_half(values) / max(middle[clock], 1e-9) for clock, values in ratios.items()}
    return Timing(medians['ours'], medians['reference'], middle, spreads, pairs), results


def _affordable(repeats: int, pair_seconds: float) -> int:
    return min(repeats, max(int(_ROW_SECONDS / max(pair_seconds, 1e-9)), _FEW_PAIRS))


def _middle_half(values: list[float]) -> float:
    """Return the distance of the quartiles, or the whole range of two values."""
    if len(values) == 1:
        return 0.0
    first, _, last = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 2 else \
        (min(values), 0.0, max(values))
    return last - first


def largest_difference(ours: Any, reference: Any) -> float:
    """Return the largest absolute difference of two results: numbers, arrays, tensors, or mappings / sequences of them.

    Infinite if the structures or shapes differ or only one side has a NaN.
    """
    if isinstance(ours, Mapping):
        if not isinstance(reference, Mapping) or ours.keys() != reference.keys():
            return float('inf')
        return max((largest_difference(ours[key], reference[key]) for key in ours), default=0.0)
    if isinstance(ours, Sequence) and not isinstance(ours, str):
        if not isinstance(reference, Sequence) or len(ours) != len(reference):
            return float('inf')
        return max((largest_difference(a, b) for a, b in zip(ours, reference)), default=0.0)
    ours, reference = _as_array(ours), _as_array(reference)
    if ours.shape != reference.shape:
        return float('inf')
    if np.array_equal(ours, reference, equal_nan=True):
        return 0.0
    gap = np.abs(ours - reference)
    return float('inf') if np.isnan(gap).any() else float(gap.max())


def _as_array(value: Any) -> np.ndarray:
    if hasattr(value, 'detach'):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def peak_extra_memory(*builders: Builder) -> list[int]:
    """Return the bytes by which one step of each builder raises the peak of resident memory.

    The steps run one after the other in another process, so that memory freed by the timed steps is not reused; what
    a step frees is returned to the system before the next one. The first builder's step runs once before it is
    measured: code that is loaded and compiled at first use is not counted. Building is not counted either.

    Raises:
        RuntimeError: the process died (often: out of memory).
    """
    try:
        return _other_process().submit(_extra_memory, builders).result()
    except BrokenProcessPool:
        _other_process.cache_clear()
        raise RuntimeError(f'the process that measures the memory of {builders} died; often, memory is full') from None


@cache
def _other_process() -> ProcessPoolExecutor:
    """One process for all rows, as starting and importing take longer than most steps; spawned, without our pages."""
    return ProcessPoolExecutor(1, multiprocessing.get_context('spawn'))


def _extra_memory(builders: Sequence[Builder]) -> list[int]:
    builders[0]()()
    found = []
    for builder in builders:
        step = builder()
        gc.collect()
        _trim_memory()
        before = _reset_peak()
        step()
        found.append(max(0, _peak() - before))
        del step
    return found


def _trim_memory() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc only; elsewhere the baseline is a little less exact
    except (OSError, AttributeError):
        pass


def _reset_peak() -> int:
    """Reset the peak to the current resident memory if possible (Linux); return the resident bytes."""
    try:
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')
    except OSError:
        return _peak()
    return _status_bytes('VmRSS')


def _peak() -> int:
    try:
        return _status_bytes('VmHWM')
    except OSError:
        import resource
        import sys
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def _status_bytes(key: str) -> int:
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f'{key}:'))


def _seconds(value: float) -> str:
    return f'{value * 1e3:.1f} ms' if value < 1 else f'{value:.2f} s'
