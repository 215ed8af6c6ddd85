"""The results of a benchmark as lines of a terminal and as a CSV file."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import io
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vitdet_plugin import __version__
from vitdet_plugin.bench.rows import Row
from vitdet_plugin.utils.output_files import write_text

_WIDTHS = (12, 6, 8, 6, 11, 11, 10, 12, 10, 10, 9)
_TITLES = ('backend', 'dtype', 'threads', 'batch', 'input', 'preprocess', 'model', 'postprocess', 'total', 'p90',
           'images/s')


def describe_machine(device: str) -> dict[str, str]:
    """Return name, processor, load and versions of this machine."""
    load = f'{os.getloadavg()[0]:.2f}' if hasattr(os, 'getloadavg') else ''
    about = dict(machine=platform.node(), processor=_processor(), cores=str(os.cpu_count()), load=load,
                 python=platform.python_version(), torch=torch.__version__)
    if device != 'cpu':
        about['gpu'] = torch.cuda.get_device_name(device)
    for package in ('onnxruntime', 'openvino'):
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return about


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(errors='replace').splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def lines(rows: Sequence[Row], metric: str | None) -> list[str]:
    """Return the lines of the table; times are in milliseconds for a batch.

    Args:
        rows: The rows.
        metric: Title of the column with the accuracy; None leaves it out.
    """
    found = [_line([*_TITLES, *([metric] if metric else [])])]
    for row in rows:
        cells = [row.backend, row.dtype, str(row.threads), str(row.batch),
                 'x'.join(map(str, row.shape)) if row.shape else '-']
        if row.reason:
            found.append(_line(cells) + f'  not measured: {row.reason}')
            continue
        cells += [f'{row.milliseconds(part):.1f}' for part in ('preprocess', 'model', 'postprocess', 'total')]
        cells += [f'{row.p90:.1f}', f'{row.images_per_second:.2f}']
        if metric:
            cells.append('-' if row.accuracy is None else f'{row.accuracy:.4f}')
        found.append(_line(cells) + (f'  noisy (spread {row.spread:.0%})' if row.is_noisy else '')
                     + (f'  {metric} not measured: {row.fault}' if metric and row.fault else ''))
    return found


def _line(cells: Sequence[str]) -> str:
    return ' '.join(cell.ljust(width) for cell, width in zip(cells, (*_WIDTHS, 7))).rstrip()


def write_csv(path: str | Path, name: str, rows: Sequence[Row], metric: str | None, machine: dict[str, str]) -> None:
    """Write the rows with what is needed to compare them later: machine, versions, date.

    Args:
        path: File to write.
        name: Name of the model.
        rows: The rows.
        metric: Name of the accuracy; without it, the two columns of the accuracy are left out.
        machine: Result of :func:`describe_machine`.
    """
    today = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d')
    records = [_record(name, row, metric) | dict(date=today, vitdet_plugin=__version__) | machine for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    write_text(path, text.getvalue())


def _record(name: str, row: Row, metric: str | None) -> dict[str, Any]:
    height, width = row.shape or ('', '')
    record: dict[str, Any] = dict(model=name, backend=row.backend, dtype=row.dtype, threads=row.threads,
                                  batch=row.batch, height=height, width=width)
    is_measured = not row.reason
    for part in ('preprocess', 'model', 'postprocess', 'total'):
        record[f'{part}_ms'] = f'{row.milliseconds(part):.3f}' if is_measured else ''
    record |= dict(p90_ms=f'{row.p90:.3f}', images_per_second=f'{row.images_per_second:.3f}',
                   spread=f'{row.spread:.3f}', noisy=int(row.is_noisy), rounds=len(row.times)) if is_measured else \
        dict(p90_ms='', images_per_second='', spread='', noisy='', rounds=0)
    if metric:
        record |= dict(metric=metric, accuracy='' if row.accuracy is None else f'{row.accuracy:.5f}')
    return record | dict(reason=row.reason)
