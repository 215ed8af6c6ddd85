"""Time and memory of a function on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Step = Callable[[], Any]


def measure(step: Step, device: str, seconds: float = 0.4, warm_up: int = 3) -> dict[str, float]:
    """Return the median time of a step in milliseconds (``ms``) and the peak memory that it adds in GiB (``gib``).

    On a GPU the sum of its kernels (``kernels_ms``) as well: less than ``ms`` where the GPU waits for the CPU.

    Args:
        step: function without arguments; it is called at least four times.
        device: 'cuda' (timed with events) or 'cpu' (no memory).
        seconds: time to spend on the repetitions.
        warm_up: calls before, which compile kernels and measure their block sizes.
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
    return dict(ms=statistics.median(_event_time(step) for _ in range(count)), gib=gib, kernels_ms=kernel_time(step))


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
    kernels = f' (kernels {numbers["kernels_ms"]:.3f} ms)' if 'kernels_ms' in numbers else ''
    memory = f', {numbers["gib"]:.2f} GiB' if 'gib' in numbers else ''
    return f'{numbers["ms"]:.3f} ms{kernels}{memory}'
