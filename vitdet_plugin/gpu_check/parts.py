"""The parts of ``vitdet gpu-check``, each run in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, Result, Settings, first_lines
from vitdet_plugin.ops.dispatch import MODULES

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


def run_part(name: str, settings: Settings, seconds: float) -> list[Result]:
    """Run one part in a new process; a crash or the end of its time is a failed result after the others."""
    package = Path(str(resources.files('vitdet_plugin'))).parent
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / 'results.jsonl'
        settings = replace(settings, folder=Path(folder))
        environment = {**os.environ, **PARTS[name].environment,
                       'PYTHONPATH': os.pathsep.join(filter(None, (str(package), os.environ.get('PYTHONPATH'))))}
        command = [sys.executable, '-m', _HERE, name, settings.dumps(), str(output)]
        failure = None
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ['']
                failure = f'the process ended with {done.returncode}: {first_lines(lines[-1])}'
        except subprocess.TimeoutExpired:
            failure = f'stopped after {seconds:.0f} s'
        found = read(output, name)
    if failure:
        found.append(Result(name, FAILED, failure, part=name))
    elif not found:
        found.append(Result(name, FAILED, 'no result', part=name))
    return found


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


def read(output: Path, name: str) -> list[Result]:
    """Return the results that a process wrote; the last line may be incomplete."""
    found = []
    for line in output.read_text(encoding='utf-8').splitlines() if output.exists() else []:
        try:
            found.append(Result(**json.loads(line)))
        except ValueError:
            found.append(Result(name, FAILED, f'incomplete result: {first_lines(line, 60)}', part=name))
    return found
