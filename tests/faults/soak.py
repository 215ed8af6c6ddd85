"""Long fault tests (``make soak``): kills while saving and corrupted annotation files; prints a table."""

import argparse
import collections
import contextlib
import io
import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import tempfile
import time
import traceback
from pathlib import Path

from tests.end_to_end.tiny_set import ROOT, write_tiny_set
from tests.faults.annotations import mutate
from tests.faults.rig import assert_same_run, train_here, write_config

# Forks of this process could not back-propagate if a test before has started threads of autograd.
_PROCESSES = multiprocessing.get_context('forkserver')
_PROCESSES.set_forkserver_preload(['vitdet_plugin.engine.train', 'mmdet.models', 'tests.faults.rig'])
_REST = ("train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={steps}, val_interval=10000)\n"
         "default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=2))\n")


def soak_kills(kills: int, folder: Path, seed: int = 0) -> dict:
    """Kill a training run at random times, resume it each time, and compare it with an uninterrupted run.

    Args:
        kills: Number of times to send SIGKILL.
        folder: Folder for the runs.
        seed: Seed of the random times.

    Returns:
        The number of kills, of kills that left an unfinished file, and of processes that failed (must be 0).
    """
    data, rng = write_tiny_set(folder / 'set', images=7), random.Random(seed)
    steps = kills * 3 + 4  # each process runs at most three steps
    ballast = (dict(type='BallastHook', megabytes=24),)  # makes saving slow
    config = write_config(folder / 'c.py', data, _REST.format(steps=steps), ballast)
    with _silence():
        train_here(config, folder / 'whole', validate=False)
    work, counts = folder / 'killed', collections.Counter()
    while counts['kills'] < kills:
        begin, more = _lines(work), rng.randint(1, 3)
        process = _PROCESSES.Process(target=_train_until_killed, args=(config, work))
        process.start()
        while process.is_alive() and _lines(work) < begin + more:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        if not process.is_alive():
            process.join()
            counts['failed processes'] += process.exitcode != 0
            if process.exitcode == 0 or counts['failed processes'] > 3:
                break
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        counts['kills'] += 1
        counts['unfinished files'] += bool(list(work.glob('.*.unfinished')))
    with _silence():
        train_here(config, work, resume='auto', validate=False)
    assert_same_run(folder / 'whole', work)
    assert not list(work.glob('.*.unfinished'))
    return {'kills': counts['kills'], 'unfinished files': counts['unfinished files'],
            'failed processes': counts['failed processes'], 'steps': steps}


def soak_mutations(mutations: int, folder: Path) -> dict:
    """Check and load corrupted annotation files.

    Args:
        mutations: Number of files.
        folder: Folder for the files.

    Returns:
        The number of files by result: 'error' (documented), 'left out' (counted), 'sound', 'crash' (must be 0); and
        ``crashes``, the first lines of unexpected exceptions.
    """
    from tests.faults.test_bad_data import examine
    data = write_tiny_set(folder / 'fuzz', images=3)
    content = json.loads((data / 'coco.json').read_text())
    counts, crashes, slowest = collections.Counter(), collections.Counter(), 0.
    for seed in range(mutations):
        begin = time.monotonic()
        try:
            with _silence():
                counts[examine(mutate(content, seed), data)] += 1
        except Exception as error:
            counts['crash'] += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            crashes[f'{type(error).__name__}: {str(error)[:80]} ({Path(last.filename).name}:{last.lineno}), seed {seed}'
                    ] += 1
        slowest = max(slowest, time.monotonic() - begin)
    return {**counts, 'crash': counts['crash'], 'crashes': list(crashes)[:20], 'slowest (s)': round(slowest, 2)}


def _train_until_killed(config: Path, work: Path) -> None:
    with open(os.devnull, 'w') as devnull, contextlib.redirect_stdout(devnull), contextlib.redirect_stderr(devnull):
        train_here(config, work, resume='auto', validate=False)


def _lines(work: Path) -> int:
    path = work / 'watch_rank0.jsonl'
    return len(path.read_text().splitlines()) if path.exists() else 0


def _silence():
    return contextlib.redirect_stdout(io.StringIO())


def _commit() -> str:
    found = subprocess.run(['git', 'describe', '--always', '--dirty'], capture_output=True, text=True, cwd=ROOT)
    return found.stdout.strip() or 'unknown'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--mutations', type=int, default=2000)
    args = parser.parse_args()
    failed = 0
    print(f'{time.strftime("%Y-%m-%d")}, commit {_commit()}, {os.cpu_count()} cores {platform.machine()}\n')
    print('| soak | result |\n|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for name, number, run in (('SIGKILL while training and saving', args.kills, soak_kills),
                                  ('mutated annotation files', args.mutations, soak_mutations)):
            result = run(number, Path(folder)) if number else {}
            failed += result.get('crash', 0) + result.get('failed processes', 0)
            failed += 'kills' in result and result['kills'] < number
            text = ', '.join(f'{key} {value}' for key, value in result.items() if value != [])
            print(f'| {name}: {number} | {text} |', flush=True)
    raise SystemExit(bool(failed))


if __name__ == '__main__':
    main()
