"""What every rank of test_ranks.py runs: whole, stopped and resumed trainings one after the other, in one process."""

import sys
from pathlib import Path

from tests.faults.rig import EPOCHS, STEPS, train_here, write_config
from vitdet_plugin.engine import train as train_module

ACCUMULATE = 'optim_wrapper = dict(accumulative_counts=2)\n'
CASES = {  # name: (settings, last step before the signal to rank 1)
    'epochs': (dict(rest=EPOCHS.format(2), workers=2), 3),
    'steps': (dict(rest=STEPS.format(7) + ACCUMULATE, loader="sampler=dict(type='InfiniteSampler')"), 3),
}


def main(folder: Path, data: Path) -> None:
    train_module.finish = lambda: None  # the process group lives on
    for name, (settings, step) in CASES.items():
        hooks = [dict(type='SignalHook', step=step, rank=1)]
        for kind, stops in (('whole', []), ('broken', hooks)):
            train_here(write_config(folder / f'{name}_{kind}.py', data, hooks=stops, **settings),
                       folder / f'{name}_{kind}')
        train_here(folder / f'{name}_broken.py', folder / f'{name}_broken', resume='auto')


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
