"""Figures of losses and metrics over training runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.figures import new_figure, plain, save, style_axes

_SMOOTHING = 0.9  # maximum weight of past values in the smoothed line; the raw values are drawn with low opacity
_LINE_POINTS = 50  # number of values up to which curves are not smoothed; the weight grows slowly with more values


class Run(NamedTuple):
    """Curves of a run by name, each an array of (iteration, value) of shape ``(K, 2)``.

    ``rates`` are the learning rates: ``base_lr`` and ``lr``, which includes the factor of the first parameter group.
    """

    losses: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    rates: dict[str, np.ndarray] = {}


def read_scalars(log: str | Path) -> Run:
    """Read the logged losses and metrics of a run.

    Args:
        log: A ``scalars.json`` file, or a work directory whose runs are joined, so that a resumed run is one curve.

    Raises:
        UserError: If there is no log, a line is not JSON, or nothing was logged yet.
    """
    log = Path(log)
    # a folder of vitdet init has its work directory in run/
    files = sorted(log.glob('*/vis_data/scalars.json')) or sorted(log.glob('run/*/vis_data/scalars.json')) \
        if log.is_dir() else [log]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f'{log}: scalars.json not found. Pass a work directory of a training run or the file itself.')
    losses: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[int, float]] = {}
    rates: dict[str, dict[int, float]] = {}
    iteration = 0
    for file in files:
        records = _read_lines(file)
        logged, has_epochs = 0, any('epoch' in scalars for scalars in records)
        for scalars in records:
            is_training = 'iter' in scalars and 'loss' in scalars
            if is_training:
                iteration = logged = scalars['iter']
            elif not has_epochs:  # else 'step' is the epoch, and metrics follow the losses of their iteration
                iteration = max(logged, scalars.get('step', iteration))
            for name, value in scalars.items():
                if is_training and 'loss' in name:
                    losses.setdefault(name, {})[iteration] = value
                elif is_training and name in ('lr', 'base_lr'):
                    rates.setdefault(name, {})[iteration] = value
                elif not is_training and name.startswith('val_') and 'loss' in name:
                    losses.setdefault(name, {})[iteration] = value
                elif not is_training and value != -1 and ('/' in name or 'mAP' in name or name.startswith('AP')):
                    metrics.setdefault(name.split('/', 1)[-1], {})[iteration] = value
    if not losses and not metrics:
        raise UserError(f'{log}: nothing was logged yet. Wait until the run writes its first line.')
    as_arrays = [{name: np.array(sorted(curve.items()), float) for name, curve in curves.items()}
                 for curves in (losses, metrics, rates)]
    return Run(*as_arrays)


def _read_lines(file: Path) -> list[dict]:
    """Return the records of a ``scalars.json`` file, without a last line that an interrupted run left incomplete."""
    records = []
    lines = file.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith('\n'):
                break
            raise UserError(f'{file}, line {number}: not JSON ({error.msg}). Remove the line.') from error
    return records


def plot_curves(log: str | Path | Sequence[str | Path], out_png: str | Path, title: str | None = None,
                names: Sequence[str] | None = None, metrics: Sequence[str] | None = None) -> Path:
    """Plot losses and metrics over iterations to a PNG file.

    For one log, the figure shows the total loss, its terms and all metrics; for several logs, the total loss and one
    metric of each.

    Args:
        log: One or several logs, see :func:`read_scalars`.
        out_png: Output file; its folder is created.
        title: Title of the figure; by default the folder name of a single log.
        names: Names of several logs; by default their folder names.
        metrics: Names of the metrics (``bbox_mAP``, ``top1``). By default all metrics of a single log, or the first
            metric that all logs have.

    Returns:
        ``out_png`` as a path.

    Raises:
        UserError: If a log cannot be read, see :func:`read_scalars`, or has no such metric.
    """
    logs = [log] if isinstance(log, (str, Path)) else list(log)
    runs = [_select_metrics(read_scalars(each), metrics, each) for each in logs]
    figure = new_figure(11, 4.2, dpi=120)
    kinds = [kind for kind in ('losses', 'metrics') if any(getattr(run, kind) for run in runs)]
    panels = dict(zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0]))
    if len(runs) == 1:
        if 'losses' in panels:
            _draw_losses(panels['losses'], runs[0].losses)
        if 'metrics' in panels:
            _draw_metrics(panels['metrics'], runs[0].metrics)
        figure.suptitle(title or plain(_name(logs[0])))
    else:
        _compare(panels, dict(zip(names or _distinct([_name(each) for each in logs]), runs)))
        figure.suptitle(title or '')
    return save(figure, Path(out_png))


def _select_metrics(run: Run, metrics: Sequence[str] | None, log: str | Path) -> Run:
    for name in metrics or ():
        if name not in run.metrics:
            raise UserError(f'{log}: no metric {name!r}. Available metrics: {", ".join(run.metrics) or "none"}.')
    return run if metrics is None else Run(run.losses, {name: run.metrics[name] for name in metrics})


def _name(log: str | Path) -> str:
    folder = Path(log).resolve()
    return (folder if folder.is_dir() else folder.parents[1]).name


def _distinct(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f'{name} ({number})' for number, name in enumerate(names, 1)]


def _compare(panels: dict, runs: dict[str, Run]) -> None:
    """Plot the total loss and the first metric that all runs have (otherwise that any run has), one color per run."""
    shared = [name for run in runs.values() for name in run.metrics if all(name in other.metrics
                                                                           for other in runs.values())]
    metric = (shared or [name for run in runs.values() for name in run.metrics] or [None])[0]
    for number, (label, run) in enumerate(runs.items()):
        color = f'C{number % 10}'
        if 'loss' in run.losses:
            curve = run.losses['loss']
            panels['losses'].plot(curve[:, 0], smoothed(curve[:, 1]), color=color, label=plain(label), linewidth=1.8,
                                  **_marker(curve))
            panels['losses'].plot(curve[:, 0], curve[:, 1], color=color, linewidth=0.8, alpha=0.2)
        if metric in run.metrics:
            curve = run.metrics[metric]
            panels['metrics'].plot(curve[:, 0], curve[:, 1], color=color, marker='o', markersize=3.5,
                                   label=plain(f'{label} ({curve[-1, 1]:.3f})'))
    for kind, heading in (('losses', 'loss'), ('metrics', metric)):
        if kind in panels:
            panels[kind].set(title=heading, xlabel='iteration', ylim=(0, None))
            _add_legend(panels[kind])


def _draw_losses(axes, losses: dict[str, np.ndarray]) -> None:
    for name in sorted(losses, key=lambda name: (name not in ('loss', 'val_loss'), -losses[name][0, 1])):
        curve, total = losses[name], name == 'loss'
        if name.startswith('val_'):
            if name == 'val_loss':
                axes.plot(curve[:, 0], curve[:, 1], label='total, validation', color='black', linestyle='--',
                          marker='o', markersize=3.5, linewidth=1.6)
            continue
        label = 'total' if total else name.removeprefix('loss_').replace('.loss_', '.')
        line, = axes.plot(curve[:, 0], smoothed(curve[:, 1]), label=label, linewidth=2.2 if total else 1.3,
                          color='black' if total else None, **_marker(curve))
        axes.plot(curve[:, 0], curve[:, 1], linewidth=0.8, alpha=0.25, color=line.get_color())
    axes.set(title='loss', xlabel='iteration', ylim=(0, None))
    _add_legend(axes)


def _marker(curve: np.ndarray) -> dict[str, Any]:
    """Return options that show a curve of a single point, which has no line."""
    return dict(marker='o', markersize=5) if len(curve) == 1 else {}


def _draw_metrics(axes, metrics: dict[str, np.ndarray]) -> None:
    main = [name for name in metrics if not name.endswith(('_s', '_m', '_l', '_75'))]
    for name in main or metrics:
        curve = metrics[name]
        axes.plot(curve[:, 0], curve[:, 1], marker='o', markersize=3.5, linewidth=1.6,
                  linestyle='--' if name.startswith('segm') else '-', label=f'{name} ({curve[-1, 1]:.3f})')
    top = max(curve[:, 1].max() for curve in metrics.values())
    axes.set(title='evaluation', xlabel='iteration', ylim=(0, max(top * 1.08, 0.05)))
    _add_legend(axes)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return an exponential moving average of values (N,) that starts at the first one."""
    weight = float(np.clip(1 - _LINE_POINTS / max(1, len(values)), 0, _SMOOTHING))
    smooth, past, norm = np.empty_like(values), 0.0, 0.0
    for index, value in enumerate(values):
        past, norm = weight * past + value, weight * norm + 1.0
        smooth[index] = past / norm
    return smooth


def _add_legend(axes) -> None:
    from matplotlib.ticker import MaxNLocator

    style_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.legend(fontsize=8, facecolor='white', edgecolor='none', framealpha=0.8)  # readable over the curves
