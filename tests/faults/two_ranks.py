"""Script that runs on every rank of test_ranks.py, several training runs in one process.

The runs are: uninterrupted runs, one resumed between two optimizer steps, a single step without a runner, a run that is
stopped by SIGTERM on one rank and resumed, and one with NaN on one rank. In the last run, one rank kills itself in the
middle of an epoch; torchrun then restarts the script, which resumes this run.
"""

import signal
import sys
from pathlib import Path

import torch

from tests.faults.one_step import step
from tests.faults.rig import EPOCHS, SHARDED, STEPS, train_here, write_config
from vitdet_plugin.cli.process import freeze_imports, leave
from vitdet_plugin.engine import train as train_module
from vitdet_plugin.errors import UserError

ACCUMULATE = 'optim_wrapper = dict(accumulative_counts=2)\n'
EPOCH_CASE = dict(rest=EPOCHS.format(2), workers=2)
STEP_CASE = dict(rest=STEPS.format(7) + ACCUMULATE, loader="sampler=dict(type='InfiniteSampler')")


def sharded(folder: Path, data: Path) -> None:
    """Run FSDP, stopped in the middle of an epoch, and between two optimizer steps of an iteration-based run."""
    cases = dict(epochs=(dict(rest=EPOCHS.format(2) + SHARDED, workers=2), 1),
                 steps=(dict(rest=STEPS.format(7) + SHARDED + ACCUMULATE.replace('dict(', 'dict(**optim_wrapper, '),
                             loader=STEP_CASE['loader']), 3))
    for name, (case, last) in cases.items():
        train_here(write_config(folder / f'{name}_whole.py', data, **case), folder / f'{name}_whole', validate=False)
        hooks = (dict(type='SignalHook', step=last, rank=1),)
        broken = write_config(folder / f'{name}_broken.py', data, hooks=hooks, **case)
        train_here(broken, folder / f'{name}_broken', validate=False)
        train_here(broken, folder / f'{name}_broken', validate=False, resume='auto')


def main(folder: Path, data: Path) -> None:
    killed = folder / 'killed.py'
    if killed.exists():  # restarted by torchrun
        train_here(killed, folder / 'killed')
        return
    train_here(write_config(folder / 'steps_whole.py', data, **STEP_CASE), folder / 'steps_whole')
    rank = torch.distributed.get_rank()
    torch.save(step([rank], is_distributed=True), folder / f'one_step_rank{rank}.pth')
    between = write_config(folder / 'steps_between.py', data, **STEP_CASE)
    train_here(between, folder / 'steps_between', resume=str(folder / 'steps_whole' / 'iter_3.pth'))
    stop = (dict(type='SignalHook', step=3, rank=1),)
    broken = write_config(folder / 'steps_broken.py', data, hooks=stop, **STEP_CASE)
    train_here(broken, folder / 'steps_broken')
    train_here(broken, folder / 'steps_broken', resume='auto')
    try:
        train_here(write_config(folder / 'nan.py', data, EPOCHS.format(1), (dict(type='PoisonHook', step=2, rank=1),)),
                   folder / 'nan')
    except UserError as error:
        print(error, flush=True)
    train_here(write_config(folder / 'epochs_whole.py', data, **EPOCH_CASE), folder / 'epochs_whole')
    kill = (dict(type='SignalHook', step=3, number=int(signal.SIGKILL), rank=1),)
    train_here(write_config(killed, data, hooks=kill, **EPOCH_CASE), folder / 'killed')


if __name__ == '__main__':
    freeze_imports()
    train_module.finish = lambda: None  # keep the process group
    (sharded if sys.argv[3:] == ['sharded'] else main)(Path(sys.argv[1]), Path(sys.argv[2]))
    leave(0)
