"""Part ``environment``: card, driver, versions, and the backend of every operator."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator

import torch

from vitdet_plugin.gpu_check.results import LEFT_OUT, Result, Settings
from vitdet_plugin.ops.dispatch import MODULES, load_operator

PACKAGES = ('triton', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain')


def run(settings: Settings) -> Iterator[Result]:
    """Yield the environment; nothing here fails."""
    yield Result('python', detail=platform.python_version())
    yield Result('torch', detail=f'{torch.__version__}, CUDA {torch.version.cuda}, HIP {torch.version.hip}')
    if settings.device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        numbers = dict(card=properties.name, capability=f'{properties.major}.{properties.minor}',
                       gib=round(properties.total_memory / 2 ** 30, 1),
                       multiprocessors=properties.multi_processor_count)
        yield Result('card', detail=', '.join(f'{key} {value}' for key, value in numbers.items()), numbers=numbers)
        yield Result('driver', detail=driver())
    for name in PACKAGES:
        yield package(name)
    for name in MODULES:
        info = load_operator(name).info(settings.device)
        others = '; '.join(f'{other}: {reason}' for other, reason in info['rejected'].items())
        yield Result(f'backend of {name}', detail=f'{info["backend"]} ({others})' if others else str(info['backend']))


def package(name: str) -> Result:
    """Return the version of a package, also under the name of its maintained fork."""
    forks = {'mmdet': 'onedl-mmdetection'}
    for distribution in (name, forks.get(name, f'onedl-{name}')):
        try:
            return Result(name, detail=f'{importlib.metadata.version(distribution)} ({distribution})')
        except importlib.metadata.PackageNotFoundError:
            continue
    return Result(name, LEFT_OUT, 'not installed')


def driver() -> str:
    """Return the version of the NVIDIA driver, or 'unknown'."""
    program = shutil.which('nvidia-smi')
    if program is None:
        return 'unknown'
    done = subprocess.run([program, '--query-gpu=driver_version', '--format=csv,noheader'], capture_output=True,
                          text=True, timeout=30)
    return done.stdout.split('\n')[0].strip() or 'unknown'
