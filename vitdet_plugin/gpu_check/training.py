"""Part ``training``: the demo model for some iterations in every precision, saved, resumed and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from vitdet_plugin.gpu_check.results import (
    FAILED,
    LEFT_OUT,
    OK,
    Result,
    Settings,
    attempt,
    first_lines,
    missing_packages,
)
from vitdet_plugin.utils.running_command import run_vitdet

CONFIG = 'vitdet_demo'
ITERATIONS = 50
#: name -> arguments of ``vitdet train``
RUNS: dict[str, list[str]] = {
    'float32': [],
    'bfloat16': ['--amp', 'bf16'],
    'float16': ['--amp', 'fp16'],
    'compiled': ['--amp', 'bf16', '--cfg-options', 'compile=True'],
}
QUICK = ('bfloat16',)


def run(settings: Settings) -> Iterator[Result]:
    """Yield one result for each run, then the comparison of an interrupted run with a continuous one."""
    if missing := missing_packages('mmengine', 'mmcv', 'mmdet', 'skimage'):
        yield Result('demo model', LEFT_OUT, f'not installed: {missing}')
        return
    made = attempt('demo set', make_set, settings.folder)
    yield made
    if made.status != OK:
        return
    for name, arguments in RUNS.items():
        if not settings.quick or name in QUICK:
            yield attempt(name, train, settings.folder, name, arguments)
    if not settings.quick:
        yield attempt('resume', resume, settings.folder)


def make_set(folder: Path) -> Result:
    """Write a small demo set."""
    vitdet(folder, 'demo', 'make-set', '--out', 'data/demo', '--train', '200', '--val', '20')
    return Result('demo set', OK, '200 images')


def train(folder: Path, name: str, arguments: list[str]) -> Result:
    """Train for some iterations; the losses must be finite and fall."""
    vitdet(folder, *train_words(name, arguments))
    losses = read_losses(folder / 'work_dirs' / name)
    detail = f'loss {losses[0]:.3f} -> {losses[-1]:.3f} in {ITERATIONS} iterations'
    is_fine = all(loss == loss and abs(loss) != float('inf') for loss in losses) and losses[-1] < losses[0]
    return Result(name, OK if is_fine else FAILED, detail, dict(losses=losses))


def resume(folder: Path) -> Result:
    """Compare 20 iterations with 10 and 10 after resuming, with deterministic operators."""
    common = ['--deterministic', '--seed', '1', '--amp', 'bf16']
    vitdet(folder, *train_words('continuous', common, 20))
    vitdet(folder, *train_words('interrupted', common, 10))
    vitdet(folder, *train_words('interrupted', [*common, '--resume'], 20))
    ours, expected = (read_losses(folder / 'work_dirs' / name)[-1] for name in ('interrupted', 'continuous'))
    status = OK if ours == expected else FAILED
    return Result('resume', status, f'last loss {ours!r} after resuming, {expected!r} in one run')


def train_words(name: str, arguments: list[str], iterations: int = ITERATIONS) -> list[str]:
    """Return the words of the command that trains a run."""
    options = [f'max_iters={iterations}', f'train_cfg.max_iters={iterations}', 'default_hooks.logger.interval=5',
               f'default_hooks.checkpoint.interval={iterations}', 'train_dataloader.num_workers=4']
    words = list(arguments)
    if '--cfg-options' in words:
        words += options
    else:
        words += ['--cfg-options', *options]
    return ['train', CONFIG, '--no-validate', '--work-dir', f'work_dirs/{name}', *words]


def read_losses(work: Path) -> list[float]:
    """Return the logged losses of the newest run in a work directory."""
    newest = max(work.glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime)
    records = [json.loads(line) for line in newest.read_text(encoding='utf-8').splitlines()]
    return [record['loss'] for record in records if 'loss' in record]


def vitdet(folder: Path, *words: str) -> None:
    """Run a subcommand in a new process.

    Raises:
        RuntimeError: It failed; with the last line that it printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = run_vitdet(*words, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(f'vitdet {words[0]} ended with {done.returncode}: {first_lines(lines[-1] if lines else "")}')
