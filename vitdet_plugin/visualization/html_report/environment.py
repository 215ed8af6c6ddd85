"""Where and how a model was trained, and this page was made: versions, device, command, seed, duration."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import torch

from vitdet_plugin import __version__
from vitdet_plugin.compat.versions import FORKS
from vitdet_plugin.visualization.html_report.elements import facts, section, tag

_PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'numpy',
             'opencv-python', 'pycocotools')
_STAMP = re.compile(r'(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - mmengine - ')
_COMMAND = re.compile(r' - INFO - Command: (.*)')
# names in the log file of mmengine -> names in the table
_LOGGED = {'Python': 'Python', 'PyTorch': 'torch', 'TorchVision': 'torchvision', 'OpenCV': 'OpenCV',
           'MMEngine': 'mmengine', 'GPU 0': 'GPU', 'GPU 0,1': 'GPU', 'CUDA available': 'CUDA available',
           'GPU number': 'processes', 'seed': 'seed', 'sys.platform': 'system'}
_HEAD, _TAIL = 200_000, 8_000  # bytes of a log file that are read for its first and last lines


def environment_section(work_dir: Path | None, meta: dict[str, Any], device: str, command: str) -> Element:
    """Describe the environments of training and report.

    Args:
        work_dir: Folder of the training run, if there is one.
        meta: What training stored in the checkpoint.
        device: Name of the device of the evaluation.
        command: The command that writes the report.
    """
    logs = _logs(work_dir)
    trained: dict[str, Any] = {}
    if logs:
        trained = {'runs': str(len(logs)) if len(logs) > 1 else None, **_logged(logs[-1])}
        trained |= {'started': _stamps(logs[0])[0], 'ended': _stamps(logs[-1])[1], 'duration': _duration(logs)}
    if meta:
        trained.setdefault('seed', meta.get('seed'))
        trained['checkpoint written'] = meta.get('time')
        trained.setdefault('mmengine', meta.get('mmengine_version'))
    rows = [(name, None if value is None else str(value)) for name, value in trained.items()]
    here = [('command', tag('code', command)), ('written', datetime.now().strftime('%Y-%m-%d %H:%M')),
            ('device', device), ('Python', platform.python_version()), ('system', platform.platform()),
            ('vitdet_plugin', __version__),
            *((name, version(name)) for name in _PACKAGES)]
    content = [tag('h3', 'Training'), facts(rows)] if any(value for _, value in rows) else [
        tag('p', 'The environment of the training is left out: there is no log file of it.', class_='note')]
    return section('Environment', content, tag('h3', 'Evaluation and this page'), facts(here))


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    for name in (package, FORKS.get(package, package)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or ``cpu`` with the number of threads."""
    if device.type == 'cuda':
        return f'{device} ({torch.cuda.get_device_name(device)})'
    return f'{device} ({torch.get_num_threads()} threads)'


def _logs(work_dir: Path | None) -> list[Path]:
    """Return the log files of the training runs in a work directory, oldest first."""
    if work_dir is None or not work_dir.is_dir():
        return []
    trainings = []
    for file in sorted(work_dir.glob('*/*.log')):
        scalars = file.parent / 'vis_data' / 'scalars.json'
        if scalars.is_file() and '"loss"' in scalars.read_text(errors='replace')[:4000]:
            trainings.append(file)
    return trainings


def _logged(log: Path) -> dict[str, str]:
    """Return the facts that mmengine writes at the start of a log file."""
    with open(log, encoding='utf-8', errors='replace') as file:
        start = file.read(_HEAD)
    head, command = start.partition(' - Config:')[0], _COMMAND.search(start)
    found = {'command': command[1]} if command else {}
    for line in head.splitlines():
        name, colon, value = line.strip().partition(': ')
        if colon and name in _LOGGED and _LOGGED[name] not in found and value.strip():
            found[_LOGGED[name]] = value.strip()
    if found.get('CUDA available') == 'False':
        found.pop('processes', None)
        found['device'] = 'cpu'
    found.pop('CUDA available', None)
    return found


def _stamps(log: Path) -> tuple[str | None, str | None]:
    """Return the times of the first and the last entry of a log file."""
    with open(log, 'rb') as file:
        head = file.read(_TAIL).decode('utf-8', 'replace')
        file.seek(max(0, log.stat().st_size - _TAIL))
        tail = file.read().decode('utf-8', 'replace')
    first, last = _STAMP.search(head), _STAMP.findall(tail)
    return first[1] if first else None, last[-1] if last else None


def _duration(logs: Sequence[Path]) -> str | None:
    """Return the sum of the durations of runs as text."""
    total = timedelta()
    for log in logs:
        first, last = _stamps(log)
        if first and last:
            total += datetime.strptime(last, '%Y/%m/%d %H:%M:%S') - datetime.strptime(first, '%Y/%m/%d %H:%M:%S')
    seconds = int(total.total_seconds())
    if seconds <= 0:
        return None
    hours, minutes = divmod(seconds // 60, 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min {seconds % 60} s'
