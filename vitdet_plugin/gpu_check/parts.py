"""The parts of ``vitdet gpu-check``, each run in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, Result, Settings, first_lines
from vitdet_plugin.ops.dispatch import MODULES
from vitdet_plugin.utils.running_command import package_environment

_HERE = 'vitdet_plugin.gpu_check'


class Part(NamedTuple):
    """A part.

    Attributes:
        module: module of this package with ``run``.
        seconds: limit, and with ``--quick``; 0 leaves it out.
        arguments: further arguments of ``run``.
        environment: variables of its process.
    """

    module: str
    seconds: tuple[int, int]
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}


#: The order is that of importance: later parts are left out if there is no time left.
PARTS: dict[str, Part] = {
    'environment': Part('environment', (60, 40)),
    **{f'operator {name}': Part('operators', (120, 60), (name,), {'VITDET_OPS_TUNE': '0'}) for name in MODULES},
    'backbones': Part('backbones', (90, 60), environment={'VITDET_OPS_TUNE': '0'}),
    'time operators': Part('timing', (150, 60)),
    'time backbones': Part('backbone_timing', (120, 40)),
    'time step': Part('step', (90, 60)),
    'training': Part('training', (240, 60)),
    'goldens': Part('goldens', (120, 0), environment={'VITDET_OPS_TUNE': '0'}),
}


def run_parts(names: list[str], settings: Settings, limit: float) -> Iterator[Result]:
    """Run the parts one after the other and yield their results.

    Args:
        names: parts to run.
        settings: what every part is given.
        limit: seconds for all of them together.
    """
    end = time.monotonic() + limit
    for name in names:
        seconds = PARTS[name].seconds[settings.quick]
        remaining = end - time.monotonic()
        if not seconds:
            yield Result(name, LEFT_OUT, 'not with --quick', part=name)
        elif remaining < 10:
            yield Result(name, LEFT_OUT, 'no time left; raise --time-limit or name the part with --parts', part=name)
        else:
            yield from run_part(name, settings, min(seconds, remaining))


def run_part(name: str, settings: Settings, seconds: float) -> Iterator[Result]:
    """Run one part in a new process and yield its results as they come; a crash or the end of its time is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / 'results.jsonl', Path(folder) / 'stderr.txt'
        settings = replace(settings, folder=Path(folder))
        command = [sys.executable, '-m', _HERE, name, settings.dumps(), str(output)]
        with errors.open('w', encoding='utf-8') as stream:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True,
                                       env={**package_environment(), **PARTS[name].environment})
        count = 0
        try:
            for _ in _waits(process, seconds):
                new = read(output, name, running=True)[count:]
                count += len(new)
                yield from new
        finally:
            failure = f'stopped after {seconds:.0f} s' if process.poll() is None else None
            _end(process)
        yield from read(output, name)[count:]
        if process.returncode and not failure:
            lines = errors.read_text(encoding='utf-8', errors='replace').strip().splitlines() or ['']
            failure = f'the process ended with {process.returncode}: {first_lines(lines[-1])}'
        found = output.exists() and output.stat().st_size
    if failure:
        yield Result(name, FAILED, failure, part=name)
    elif not found:
        yield Result(name, FAILED, 'no result', part=name)


def _waits(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Yield every now and then until the process ends or its time is over."""
    end = time.monotonic() + seconds
    while (remaining := end - time.monotonic()) > 0:
        try:
            process.wait(min(remaining, 0.3))
            return
        except subprocess.TimeoutExpired:
            yield


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and those that it started, if it is running."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_here(name: str, settings: Settings) -> Iterator[Result]:
    """Run a part in this process."""
    part = PARTS[name]
    for result in importlib.import_module(f'{_HERE}.{part.module}').run(settings, *part.arguments):
        yield replace(result, part=name)


def write(name: str, settings: Settings, output: Path) -> None:
    """Run a part in this process and write each result as one line, as soon as it exists."""
    with output.open('w', encoding='utf-8') as file:
        for result in run_here(name, settings):
            file.write(json.dumps(asdict(result), default=str) + '\n')
            file.flush()


def read(output: Path, name: str, running: bool = False) -> list[Result]:
    """Return the results that a process wrote; the last line may be incomplete; left out if ``running``."""
    found = []
    for line in output.read_text(encoding='utf-8').splitlines(keepends=True) if output.exists() else []:
        if running and not line.endswith('\n'):
            break
        try:
            found.append(Result(**json.loads(line)))
        except ValueError:
            found.append(Result(name, FAILED, f'incomplete result: {first_lines(line, 60)}', part=name))
    return found
