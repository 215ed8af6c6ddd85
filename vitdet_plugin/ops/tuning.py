"""Select how a Triton kernel is launched: the fastest of a few choices, measured once for a class of shapes.

Results are kept in the process and in a file for each GPU, next to the compiled operators. Nothing is measured with
``VITDET_OPS_TUNE=0``, under ``torch.use_deterministic_algorithms`` (sums could differ from run to run), in the
interpreter, or while a CUDA graph is captured: the first choice that fits the GPU is used then.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitdet_plugin.errors import UserError
from vitdet_plugin.ops import triton_support
from vitdet_plugin.ops.library import cache_folder
from vitdet_plugin.utils.output_files import write_text

VARIABLE = 'VITDET_OPS_TUNE'
_WARM_UP, _REPEAT = 1, 5
_chosen: dict[tuple[Any, ...], int] = {}  # (*key, whether deterministic) -> index; of this process


class Choice(NamedTuple):
    """One way to launch a kernel.

    Attributes:
        blocks: constants of the kernel, such as the size of a program's block.
        num_warps: warps of each program.
        num_stages: stages of the software pipeline.
    """

    blocks: dict[str, int]
    num_warps: int = 4
    num_stages: int = 2

    @property
    def options(self) -> dict[str, int]:
        """Keyword arguments of the launch."""
        return {**self.blocks, 'num_warps': self.num_warps, 'num_stages': self.num_stages}


def launch_tuned(key: Sequence[Any], choices: Sequence[Choice], launch: Callable[[Choice], None],
                 tensor: Tensor) -> None:
    """Launch a kernel with the fastest choice.

    Args:
        key: name of the kernel and its class of shapes; calls with the same key share a choice.
        choices: a few, the best guess first.
        launch: launches once and gives the same result however often it is called.
        tensor: one of the kernel's tensors; its device is used.

    Raises:
        OutOfResources: no choice fits the GPU.
    """
    with triton_support.on_device(tensor):
        if triton_support.INTERPRETED or len(choices) == 1:
            launch(choices[0])
            return
        deterministic = triton_support.deterministic()
        kept = (*key, deterministic)
        if kept not in _chosen and not deterministic and _may_measure():
            _chosen[kept] = _fastest(key, choices, launch)
        used = _launch_first(_chosen.get(kept, 0), choices, launch)
        if deterministic:
            _chosen[kept] = used


def _fastest(key: Sequence[Any], choices: Sequence[Choice], launch: Callable[[Choice], None]) -> int:
    """Return the index of the fastest choice, from the file or measured now."""
    name = json.dumps([*map(str, key), [[*choice.blocks.values(), *choice[1:]] for choice in choices]])
    index = _stored(_file()).get(name)
    if index is None:
        index = _measure(choices, launch)
        _store(_file(), name, index)
    return index


def shape_class(size: int) -> int:
    """Return the same number for sizes between two powers of 4."""
    return (max(size, 1).bit_length() + 1) // 2


def _may_measure() -> bool:
    return os.environ.get(VARIABLE, '1') != '0' and not torch.cuda.is_current_stream_capturing()


def _launch_first(first: int, choices: Sequence[Choice], launch: Callable[[Choice], None]) -> int:
    """Launch the choice ``first``, or the first other one that the GPU has shared memory and registers for.

    Returns:
        Index of the choice.
    """
    order = [first, *(index for index in range(len(choices)) if index != first)]
    for index in order[:-1]:
        try:
            launch(choices[index])
        except _out_of_resources():
            continue
        return index
    launch(choices[order[-1]])
    return order[-1]


def _out_of_resources() -> type[Exception]:
    from triton import OutOfResources
    found: type[Exception] = OutOfResources
    return found


def _measure(choices: Sequence[Choice], launch: Callable[[Choice], None]) -> int:
    """Return the index of the fastest choice."""
    times = [float('inf')] * len(choices)
    for index, choice in enumerate(choices):
        with contextlib.suppress(_out_of_resources()):
            for _ in range(_WARM_UP):
                launch(choice)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(_REPEAT):
                launch(choice)
            end.record()
            end.synchronize()
            times[index] = start.elapsed_time(end)
    return times.index(min(times))


@cache
def _file() -> Path:
    gpu = ''.join(c if c.isalnum() else '_' for c in torch.cuda.get_device_name())
    try:
        version = importlib.metadata.version('triton')
    except importlib.metadata.PackageNotFoundError:
        version = 'unknown'
    return cache_folder() / f'triton_{version}_{gpu}.json'


@cache
def _stored(path: Path) -> dict[str, int]:
    """Read the file once for each process; an unreadable one counts as empty."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _store(path: Path, name: str, index: int) -> None:
    _stored(path)[name] = index
    with contextlib.suppress(UserError):  # results only save time
        write_text(path, json.dumps(_stored(path)))
