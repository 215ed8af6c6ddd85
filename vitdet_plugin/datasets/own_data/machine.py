"""What the machine offers to a training: device, memory, cores."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Resources for a training.

    Attributes:
        has_gpu: Whether torch finds a GPU.
        memory: Free memory of the GPU, or else of the machine, in bytes.
        cores: Processor cores that this process may use.
        name: Name for messages.
    """

    has_gpu: bool
    memory: int
    cores: int
    name: str


def find_machine() -> Machine:
    """Return the resources of this machine."""
    import torch
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    if torch.cuda.is_available():
        free = torch.cuda.mem_get_info()[0]
        return Machine(True, free, cores, f'{torch.cuda.get_device_name()} with {free / 2**30:.0f} GB free')
    try:
        memory = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        with open('/proc/meminfo', encoding='ascii', errors='replace') as file:  # counts caches as available
            memory = next((int(line.split()[1]) * 1024 for line in file if line.startswith('MemAvailable')), memory)
    except (OSError, ValueError):
        memory = 8 * 2**30
    return Machine(False, memory, cores, f'the CPU: {cores} cores, {memory / 2**30:.0f} GB of free memory')
