"""Script that runs on both ranks of test_agents.py: an uninterrupted run and one that is stopped, or the rest."""

import sys
from pathlib import Path

from tests.faults.rig import EPOCHS, train_here, write_config
from vitdet_plugin.cli.process import leave
from vitdet_plugin.engine import train as train_module

CASE = dict(rest=EPOCHS.format(3), workers=1)


def main(folder: Path, data: Path, stage: str) -> None:
    if stage == 'stop':
        finish, train_module.finish = train_module.finish, lambda: None  # keep the process group
        train_here(write_config(folder / 'whole.py', data, **CASE), folder / 'whole', validate=False)
        train_module.finish = finish
    hooks = (dict(type='AgentSignalHook', step=3, rank=1),)
    broken = write_config(folder / 'broken.py', data, hooks=hooks, **CASE)
    train_here(broken, folder / 'broken', validate=False, resume='auto' if stage == 'resume' else False)


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    leave(0)
