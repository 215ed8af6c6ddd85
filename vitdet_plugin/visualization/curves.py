"""Loss and accuracy over a training run as one figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.figures import new_figure, tidy

_SMOOTHING = 0.9  # most weight of the past in the drawn line; the raw values stay visible behind it
_LINE_POINTS = 50  # of so many values none is smoothed; of a few more the line must not lag behind a falling loss


class Run(NamedTuple):
    """Curves of a run: name -> (K, 2) array of iteration and value."""

    losses: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]


def read_scalars(log: str | Path) -> Run:
    """Read what a run logged.

    Args:
        log: A ``scalars.json``, or a work directory: then all its runs in order, so a resumed run is one curve.

    Raises:
        UserError: No log there, a line that is not JSON, or nothing logged yet.
    """
    log = Path(log)
    files = sorted(log.glob('*/vis_data/scalars.json')) if log.is_dir() else [log]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f'{log}: no scalars.json there; give a work directory of a training run or the file itself')
    losses: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[int, float]] = {}
    iteration = 0
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            try:
                scalars = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f'{file}, line {number}: not JSON ({error.msg})') from error
            is_training = 'iter' in scalars and 'loss' in scalars
            iteration = scalars['iter'] if is_training else iteration  # evaluations come behind their iteration
            for name, value in scalars.items():
                if is_training and 'loss' in name:
                    losses.setdefault(name, {})[iteration] = value
                elif not is_training and value != -1 and ('/' in name or 'mAP' in name or name.startswith('AP')):
                    metrics.setdefault(name.split('/', 1)[-1], {})[iteration] = value
    if not losses and not metrics:
        raise UserError(f'{log}: nothing logged yet')
    as_arrays = [{name: np.array(sorted(curve.items()), float) for name, curve in curves.items()}
                 for curves in (losses, metrics)]
    return Run(*as_arrays)


def plot_curves(log: str | Path | Sequence[str | Path], out_png: str | Path, title: str | None = None,
                names: Sequence[str] | None = None, metrics: Sequence[str] | None = None) -> Path:
    """Draw losses and evaluation results over iterations into a PNG.

    One log: loss, its parts and every metric. Several: the total loss and one metric of each, to compare them.

    Args:
        log: As for :func:`read_scalars`, or several of these.
        out_png: File to write; its folder is made.
        title: Text above; by default the log's folder.
        names: Of several logs; their folders by default.
        metrics: Which metrics (``bbox_mAP``, ``top1``); by default all, or of several logs the first that all have.

    Returns:
        ``out_png`` as a path.

    Raises:
        UserError: See :func:`read_scalars`; or a metric that is not in a log.
    """
    logs = [log] if isinstance(log, (str, Path)) else list(log)
    runs = [_only(read_scalars(each), metrics, each) for each in logs]
    figure = new_figure(11, 4.2, dpi=120)
    kinds = [kind for kind in ('losses', 'metrics') if any(getattr(run, kind) for run in runs)]
    panels = dict(zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0]))
    if len(runs) == 1:
        if 'losses' in panels:
            _draw_losses(panels['losses'], runs[0].losses)
        if 'metrics' in panels:
            _draw_metrics(panels['metrics'], runs[0].metrics)
        figure.suptitle(title or _name(logs[0]))
    else:
        _compare(panels, dict(zip(names or _distinct([_name(each) for each in logs]), runs)))
        figure.suptitle(title or '')
    out_png = Path(out_png)
    out_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_png)
    return out_png


def _only(run: Run, metrics: Sequence[str] | None, log: str | Path) -> Run:
    for name in metrics or ():
        if name not in run.metrics:
            raise UserError(f'{log}: no metric {name!r}; there are {", ".join(run.metrics) or "none"}')
    return run if metrics is None else Run(run.losses, {name: run.metrics[name] for name in metrics})


def _name(log: str | Path) -> str:
    folder = Path(log).resolve()
    return (folder if folder.is_dir() else folder.parents[1]).name


def _distinct(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f'{name} ({place})' for place, name in enumerate(names, 1)]


def _compare(panels: dict, runs: dict[str, Run]) -> None:
    """The total loss, and the first metric that all runs have (or else any of them), in one colour a run."""
    shared = [name for run in runs.values() for name in run.metrics if all(name in other.metrics
                                                                           for other in runs.values())]
    metric = (shared or [name for run in runs.values() for name in run.metrics] or [None])[0]
    for number, (label, run) in enumerate(runs.items()):
        colour = f'C{number % 10}'
        if 'loss' in run.losses:
            curve = run.losses['loss']
            panels['losses'].plot(curve[:, 0], _smoothed(curve[:, 1]), color=colour, label=label, linewidth=1.8)
            panels['losses'].plot(curve[:, 0], curve[:, 1], color=colour, linewidth=0.8, alpha=0.2)
        if metric in run.metrics:
            curve = run.metrics[metric]
            panels['metrics'].plot(curve[:, 0], curve[:, 1], color=colour, marker='o', markersize=3.5,
                                   label=f'{label} ({curve[-1, 1]:.3f})')
    for kind, heading in (('losses', 'loss'), ('metrics', metric)):
        if kind in panels:
            panels[kind].set(title=heading, xlabel='iteration', ylim=(0, None))
            _tidy(panels[kind])


def _draw_losses(axes, losses: dict[str, np.ndarray]) -> None:
    for name in sorted(losses, key=lambda name: (name != 'loss', -losses[name][0, 1])):
        curve, total = losses[name], name == 'loss'
        label = 'total' if total else name.removeprefix('loss_').replace('.loss_', '.')
        line, = axes.plot(curve[:, 0], _smoothed(curve[:, 1]), label=label, linewidth=2.2 if total else 1.3,
                          color='black' if total else None)
        axes.plot(curve[:, 0], curve[:, 1], linewidth=0.8, alpha=0.25, color=line.get_color())
    axes.set(title='loss', xlabel='iteration', ylim=(0, None))
    _tidy(axes)


def _draw_metrics(axes, metrics: dict[str, np.ndarray]) -> None:
    main = [name for name in metrics if not name.endswith(('_s', '_m', '_l', '_75'))]
    for name in main or metrics:
        curve = metrics[name]
        axes.plot(curve[:, 0], curve[:, 1], marker='o', markersize=3.5, linewidth=1.6,
                  linestyle='--' if name.startswith('segm') else '-', label=f'{name} ({curve[-1, 1]:.3f})')
    top = max(curve[:, 1].max() for curve in metrics.values())
    axes.set(title='evaluation', xlabel='iteration', ylim=(0, max(top * 1.08, 0.05)))
    _tidy(axes)


def _smoothed(values: np.ndarray) -> np.ndarray:
    weight = float(np.clip(1 - _LINE_POINTS / max(1, len(values)), 0, _SMOOTHING))
    smooth, past, norm = np.empty_like(values), 0.0, 0.0
    for index, value in enumerate(values):
        past, norm = weight * past + value, weight * norm + 1.0
        smooth[index] = past / norm
    return smooth


def _tidy(axes) -> None:
    from matplotlib.ticker import MaxNLocator

    tidy(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.legend(frameon=False, fontsize=8)
