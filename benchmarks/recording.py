"""Where and how rows are kept: a CSV file for each machine, to which every run appends."""

import csv
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent / 'results'
_PACKAGES = ('torch', 'timm', 'transformers', 'onedl-mmdetection', 'mmdet', 'numpy', 'opencv-python-headless')
COLUMNS = ('date', 'commit', 'machine', 'cores', 'threads', 'python', 'packages', 'clock', 'quick', 'load', 'benchmark',
           'path', 'reference', 'wall_ratio', 'cpu_ratio', 'wall_spread', 'cpu_spread', 'pairs', 'noisy', 'wall_ours',
           'wall_reference', 'cpu_ours', 'cpu_reference', 'memory_ratio', 'time_goal', 'memory_goal', 'reached',
           'difference', 'tolerance', 'row_seconds', 'note')


def machine() -> str:
    """Return the name of the processor with the number of cores, such as ``amd-epyc-9xx4-2-cores``."""
    name = platform.processor() or platform.machine()
    try:
        with open('/proc/cpuinfo') as file:
            name = next(line.split(':', 1)[1] for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        pass
    words = re.sub(r'\(\w+\)|\d+-core|processor|cpu|@.*', ' ', name.lower())
    return '-'.join([*re.findall(r'[a-z0-9]+', words), str(os.cpu_count()), 'cores'])


def default_file() -> Path:
    """Return the file of this machine."""
    return _FOLDER / f'{machine()}.csv'


def environment() -> dict[str, Any]:
    """Return what describes a run: date, commit, machine, threads and versions."""
    import torch
    versions = []
    for package in _PACKAGES:
        try:
            version = torch.__version__ if package == 'torch' else importlib.metadata.version(package)
            versions.append(f'{package} {version}')
        except importlib.metadata.PackageNotFoundError:
            continue
    return {'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%MZ'), 'commit': _commit(),
            'machine': machine(), 'cores': os.cpu_count(), 'threads': torch.get_num_threads(),
            'python': platform.python_version(), 'packages': '; '.join(versions)}


def load() -> str:
    """Return the average number of running processes over 1, 5 and 15 minutes; unknown on Windows."""
    try:
        return ' '.join(f'{value:.2f}' for value in os.getloadavg())
    except (AttributeError, OSError):
        return 'unknown'


def why_not_append(file: Path) -> str | None:
    """Return why rows cannot be appended to an existing file, or None."""
    if not file.exists() or not file.stat().st_size:
        return None
    with open(file, newline='') as stream:
        header = next(csv.reader(stream), [])
    if tuple(header) != COLUMNS:
        return 'its columns are not those of this version; move the file or name another one'
    return None


def append(file: Path, environment: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows, each with the environment, to a CSV file with ``COLUMNS``."""
    is_new = not file.exists() or not file.stat().st_size
    with open(file, 'a', newline='') as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction='ignore', lineterminator='\n')
        if is_new:
            writer.writeheader()
        for row in rows:
            writer.writerow({key: _text(value) for key, value in {**environment, **row}.items()})


def _text(value: Any) -> Any:
    return f'{value:.6g}' if isinstance(value, float) else value


def _commit() -> str:
    """Return the commit of this checkout, with ``+`` if files differ from it; empty without git."""
    def git(*args: str) -> str:
        return subprocess.run(['git', '-C', str(_FOLDER.parent), *args], capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        return git('rev-parse', '--short=10', 'HEAD') + ('+' if git('status', '--porcelain', '-uno') else '')
    except (OSError, subprocess.CalledProcessError):
        return ''
