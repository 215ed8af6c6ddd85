"""Time and memory of a function on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[], Any]
_QUEUED = 30  # steps; more small kernels than fit into the GPU's queue would stop the CPU


def measure(step: Step, device: str, seconds: float = 0.4, warm_up: int = 3) -> dict[str, float]:
    """Measure time and memory of a step.

    Args:
        step: function without arguments; it is called at least four times.
        device: 'cuda' (timed with events) or 'cpu' (``ms`` only).
        seconds: time to spend on the repetitions.
        warm_up: calls before, which compile kernels and measure their block sizes.

    Returns:
        Milliseconds and GiB: ``ms`` of one step alone, median, in which the GPU waits for the CPU's part; ``queued_ms``
        of one of several steps in a row, in which it waits only if the CPU takes longer; ``cpu_ms`` until the CPU has
        launched one of these; ``kernels_ms``, the sum of the kernels; ``gib``, the peak memory that a step adds.
    """
    for _ in range(warm_up):
        step()
    if device != 'cuda':
        start = time.perf_counter()
        step()
        return dict(ms=1000 * (time.perf_counter() - start))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    first = _event_time(step)
    gib = (torch.cuda.max_memory_allocated() - before) / 2 ** 30
    count = max(3, min(100, int(1000 * seconds / max(first, 1e-3))))
    alone = statistics.median(_event_time(step) for _ in range(count))
    return dict(ms=alone, gib=gib, **_queued_times(step, min(count, _QUEUED)), kernels_ms=kernel_time(step))


def _queued_times(step: Step, count: int) -> dict[str, float]:
    def run() -> None:
        for _ in range(count):
            step()
        seconds.append(time.perf_counter() - start)

    torch.cuda.synchronize()
    seconds: list[float] = []
    start = time.perf_counter()
    queued = _event_time(run)
    return dict(queued_ms=queued / count, cpu_ms=1000 * seconds[0] / count)


def kernel_time(step: Step, steps: int = 3) -> float:
    """Return the milliseconds in which kernels run on the GPU in one step, without the gaps between them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1000 / steps


def _event_time(step: Step) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def describe(numbers: dict[str, float]) -> str:
    """Return time and memory in words."""
    parts = ''
    if 'kernels_ms' in numbers:
        parts = ' alone, {queued_ms:.3f} ms queued (kernels {kernels_ms:.3f} ms, CPU {cpu_ms:.3f} ms)'.format(**numbers)
    memory = f', {numbers["gib"]:.2f} GiB' if 'gib' in numbers else ''
    return f'{numbers["ms"]:.3f} ms{parts}{memory}'
