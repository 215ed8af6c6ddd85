"""Ranks of a training as forks of one process that has imported the package.

:func:`tests.end_to_end.tiny_set.run_ranks` starts torchrun, and each of its ranks imports everything, in 6 seconds.
Here the variables of torchrun are set, for tests of what ranks do; test_ranks.py and tests/test_wheel.py use torchrun.
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.tiny_set import ROOT, environment, free_port

PRELOADED = ['vitdet_plugin.engine.train', 'mmdet.models', 'mmpretrain.models', 'tests.end_to_end.forked_ranks']
# Forks of the test's process could not back-propagate, as a test before may have started threads of autograd.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(PRELOADED)


def train_ranks(*words: object, ranks: int = 2) -> subprocess.CompletedProcess:
    """Run ``vitdet train <words…>`` on ``ranks`` new processes; returns the output of all of them."""
    return run_forks(_train, list(map(str, words)), ranks=ranks)


def train_alone(*words: object) -> subprocess.CompletedProcess:
    """Run ``vitdet train <words…>`` on one new process without a launcher."""
    return run_forks(_train, list(map(str, words)), ranks=0)


def run_module(name: str, *words: object, ranks: int = 2) -> subprocess.CompletedProcess:
    """Run ``python -m <name> <words…>`` on ``ranks`` new processes; returns the output of all of them."""
    return run_forks(_run_module, [name, *map(str, words)], ranks=ranks)


def run_forks(function: Callable[[list[str]], None], words: list[str], ranks: int) -> subprocess.CompletedProcess:
    """Call a function of a module on ``ranks`` new processes; the status is the first that is not zero.

    Without ranks, one process starts, without the variables of torchrun.
    """
    port = str(free_port())
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(ranks or 1):
            Path(f'{folder}/{rank}.out').touch()
            Path(f'{folder}/{rank}.err').touch()
            launched = dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks),
                            MASTER_PORT=port, MASTER_ADDR='127.0.0.1')
            variables = environment(**launched if ranks else {})
            processes.append(PROCESSES.Process(target=_rank, daemon=True, args=(
                function, words, variables, os.getcwd(), f'{folder}/{rank}')))
            with contextlib.chdir(ROOT):  # the first call starts the server, and its path may be relative
                processes[-1].start()
        for process in processes:
            process.join()
        output, errors = (''.join(Path(f'{folder}/{rank}.{kind}').read_text() for rank in range(ranks or 1))
                          for kind in ('out', 'err'))
    failed = [process.exitcode for process in processes if process.exitcode]
    return subprocess.CompletedProcess(words, failed[0] if failed else 0, output, errors)


def _rank(function, words: list[str], variables: dict[str, str], folder: str, files: str) -> None:
    for number, kind in ((1, 'out'), (2, 'err')):
        os.dup2(os.open(f'{files}.{kind}', os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    function(words)


def _train(words: list[str]) -> None:
    from vitdet_plugin.cli.process import leave
    from vitdet_plugin.cli.train import main
    sys.argv = ['vitdet', 'train', *words]
    leave(main(words))


def _run_module(words: list[str]) -> None:
    sys.argv = [words[0], *words[1:]]
    runpy.run_module(words[0], run_name='__main__')
