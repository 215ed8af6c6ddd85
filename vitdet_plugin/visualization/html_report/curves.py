"""The curves of a training: losses, metrics and learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.visualization.curves import Run, read_scalars, smoothed
from vitdet_plugin.visualization.html_report.charts import Line, line_chart
from vitdet_plugin.visualization.html_report.elements import folded, number, section, table, tag

_TITLE = 'Training'
_MOST_ROWS = 300
_DETAILS = ('_s', '_m', '_l', '_75')  # of COCO metrics, in the table only
_FRACTIONS = ('mAP', 'AP')  # metrics between 0 and 1


def training_section(work_dir: Path, iteration: int | None) -> Element:
    """Draw the curves of a work directory.

    Args:
        work_dir: Folder of a training run.
        iteration: Iteration of the evaluated checkpoint, which is marked.

    Raises:
        UserError: There is no log, or it cannot be read.
    """
    run = read_scalars(work_dir)
    return section(_TITLE, tag('div', list(_charts(run, iteration)), class_='grid'), _evaluations(run))


def last_metrics(work_dir: Path) -> dict[str, float]:
    """Return the metrics of the last evaluation of a run; empty if none was logged.

    Raises:
        UserError: There is no log, or it cannot be read.
    """
    metrics = read_scalars(work_dir).metrics
    last = max((curve[-1, 0] for curve in metrics.values()), default=0)
    return {name: float(curve[-1, 1]) for name, curve in metrics.items() if curve[-1, 0] == last}


def _charts(run: Run, iteration: int | None) -> Iterator[Element]:
    span = (0.0, max(curve[-1, 0] for curves in run for curve in curves.values()))
    marks = [] if iteration is None else [(float(iteration), 'checkpoint')]
    losses = {name: curve for name, curve in run.losses.items() if name in ('loss', 'val_loss')}
    if losses:
        lines = []
        for name, curve in losses.items():
            label, color = ('training', 0) if name == 'loss' else ('validation', 1)
            if name == 'loss':
                lines.append(Line('', curve, color, is_faint=True))
                curve = np.stack([curve[:, 0], smoothed(curve[:, 1])], 1)
            lines.append(Line(label, curve, color, has_markers=name != 'loss'))
        yield line_chart('Loss', lines, 'iteration', _from_zero(lines), span, marks)
    terms = [name for name in run.losses if name not in ('loss', 'val_loss') and not name.startswith('val_')]
    if terms:
        terms.sort(key=lambda name: -run.losses[name][0, 1])
        lines = [Line(name.removeprefix('loss_').replace('.loss_', '.'),
                      np.stack([run.losses[name][:, 0], smoothed(run.losses[name][:, 1])], 1), index,
                      is_dashed=index >= 8) for index, name in enumerate(terms)]
        yield line_chart('Terms of the loss', lines, 'iteration', _from_zero(lines), span, marks)
    shown = [name for name in run.metrics if not name.endswith(_DETAILS)] or list(run.metrics)
    scales = {name: any(part in name for part in _FRACTIONS) for name in shown}
    several = len(set(scales.values())) > 1
    for is_fraction in (True, False):
        names = [name for name in shown if scales[name] is is_fraction]
        if names:
            lines = [Line(name, run.metrics[name], index, name.startswith('segm'), True)
                     for index, name in enumerate(names)]
            title = 'Evaluation, other metrics' if several and not is_fraction else 'Evaluation'
            yield line_chart(title, lines, 'iteration', _from_zero(lines), span, marks)
    rate = next((name for name in ('base_lr', 'lr') if name in run.rates), None)
    if rate is not None:
        lines = [Line('', run.rates[rate], 0)]
        yield line_chart('Learning rate', lines, 'iteration', _from_zero(lines), span)


def _from_zero(lines: list[Line]) -> tuple[float, float]:
    values = np.concatenate([line.points[:, 1] for line in lines])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return min(0.0, low), high * 1.05 if high > 0 else 1.0


def _evaluations(run: Run) -> Element | None:
    """Return the table of all evaluations, newest first."""
    iterations = sorted({int(x) for curve in run.metrics.values() for x in curve[:, 0]}, reverse=True)
    if not iterations:
        return None
    values = {name: dict(zip(curve[:, 0].astype(int).tolist(), curve[:, 1].tolist()))
              for name, curve in run.metrics.items()}
    rows = [[str(each), *(number(values[name].get(each)) for name in values)] for each in iterations[:_MOST_ROWS]]
    return folded(f'All evaluations ({len(iterations)})', table(['iteration', *values], rows))
